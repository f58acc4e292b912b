"""A real round trip through the Service: ready, reads its database, and, where somebody can log in, stores, reads and removes a category."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

URL = os.environ["STOCKROOM_URL"]
PASSWORD = os.environ.get("STOCKROOM_PASSWORD")


def ask(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, *, expected: int) -> tuple[str, Any]:
    """The answer's ETag and content; ends the test when its status is another than expected."""
    request = urllib.request.Request(URL + path, method=method, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            status, tag, text = answer.status, answer.headers["ETag"] or "", answer.read()
    except urllib.error.HTTPError as error:
        status, tag, text = error.code, "", error.read()
    if status != expected:
        raise SystemExit(f"{method} {path}: {status} instead of {expected}: {text.decode(errors='replace')}")
    print(f"{method} {path}: {status}")
    return tag, json.loads(text) if text else None


def log_in(username: str, password: str, *, expected: int) -> Any:
    """A token, or the problem."""
    form = urllib.parse.urlencode({"username": username, "password": password}).encode()
    return ask("POST", "/api/v1/auth/login", form, expected=expected)[1]


ask("GET", "/healthz", expected=200)
ask("GET", "/.well-known/jwks.json", expected=200)
log_in(f"{uuid.uuid4()}@example.com", "no user has this password", expected=401)
if PASSWORD:
    token = log_in(os.environ["STOCKROOM_USERNAME"], PASSWORD, expected=200)["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    name = f"Round trip {uuid.uuid4()}"
    made = ask("POST", "/api/v1/categories", json.dumps({"name": name}).encode(), headers, expected=201)[1]
    path = f"/api/v1/categories/{made['id']}"
    tag, found = ask("GET", path, headers=headers, expected=200)
    if found["name"] != name:
        raise SystemExit(f"stored {name} and read {found['name']}")
    ask("DELETE", path, headers={**headers, "If-Match": tag}, expected=204)
    ask("GET", path, headers=headers, expected=404)
else:
    print("nobody to log in as: the Secret has no admin-password, so nothing was stored")
