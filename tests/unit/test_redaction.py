"""Redaction of finished lines: what is secret goes, what is not stays, and a line of JSON stays one."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.core.config import Settings
from app.core.redaction import Redaction

SECRET = "correct horse battery staple"
redaction = Redaction(Settings(_env_file=None, admin_password=SecretStr(SECRET)))

_texts = st.text(st.characters(exclude_categories=["Cs"]))
_marks = [
    "password=",
    'password="',
    "password: '",
    "://eva:",
    "@db",
    "Bearer ",
    "eyJhbGciOiJFUzI1NiJ9.",
    "$argon2id$",
    "-----BEGIN PRIVATE KEY-----",
    '"',
    "\\",
]


@pytest.mark.parametrize(
    "text",
    [
        "Listening at: http://127.0.0.1:8000 (1)",
        'connection failed: host db, port 5432: password authentication failed for user "stockroom"',
        "SELECT password_hash FROM user_account WHERE id = %(id)s",
        "Send an access token: `Authorization: Bearer …`.",
        "https://media.example.com/a@b",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redaction.cleaned_text(text) == text


def test_a_line_of_a_request_is_not_even_looked_at() -> None:
    line = {
        "event": "request",
        "route": "/api/v1/products/{product_id}",
        "client": "2001:db8::1",
        "request_id": "given-by-client",
        "status": 200,
    }
    assert not redaction.suspects(orjson.dumps(line))


@given(st.lists(st.one_of(_texts, st.sampled_from(_marks), st.just(SECRET)), max_size=8).map("".join))
def test_a_known_secret_is_never_shown_whatever_stands_around_it(text: str) -> None:
    line = orjson.dumps({"event": text, "nested": [text]})
    assert redaction.suspects(line) or SECRET not in text
    assert SECRET not in str(redaction.cleaned(orjson.loads(line)))


def test_a_field_that_is_called_a_password_is_not_shown_whatever_it_is() -> None:
    assert redaction.cleaned({"a": [{"new_password": "x", "password_ok": True}]}) == {"a": [{"new_password": "***", "password_ok": True}]}


def test_a_private_key_that_was_cut_off_goes_to_its_end() -> None:
    assert redaction.cleaned_text("key: -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n") == "key: ***"
