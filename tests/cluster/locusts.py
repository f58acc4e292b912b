"""Locust from inside the cluster: `python -c "$(cat locusts.py)" URL ...` in an image that has it, until standard input ends.

Each failed request is a line of JSON when it happens. At the end come Locust's sums, and whether the books agree with what its clients were told.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_TELLS = """
import json
import time
from datetime import UTC, datetime

from locust import events

began = time.monotonic()


def tell(**line):
    print(json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}), flush=True)


@events.request.add_listener
def failed(request_type, name, exception, **_):
    if exception is not None:
        tell(failed=f"{request_type} {name}: {exception!r}")


@events.spawning_complete.add_listener
def started(**_):
    tell(started=True)


@events.quitting.add_listener
def ended(environment, **_):
    total = environment.stats.total
    seconds = time.monotonic() - began
    tell(totals={"sent": total.num_requests, "failed": total.num_failures, "seconds": seconds, "slowest_ms": total.max_response_time})
"""


def main() -> int:
    """Run until standard input ends; the exit code is Locust's, 1 when a request failed or the books disagree."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=40.0)
    options = parser.parse_args()
    tells = Path("/tmp/tells.py")
    tells.write_text(_TELLS, encoding="utf-8")
    command = ["locust", "--headless", "--locustfile", f"loadtests/locustfile.py,{tells}", "--host", options.url, "--stop-timeout", "20"]
    command += [
        "--users",
        str(options.clients),
        "--spawn-rate",
        str(options.clients),
        "--rate-per-user",
        str(options.rate / options.clients),
    ]
    environment = {**os.environ, "STOCKROOM_PASSWORD": os.environ["PASSWORD"], "APP_DATABASE_URL": os.environ["DATABASE_URL"]}
    with subprocess.Popen([*command, "--only-summary", "Mixed"], env=environment, stdin=subprocess.DEVNULL) as locust:
        sys.stdin.read()
        locust.send_signal(signal.SIGTERM)
        code = locust.wait()
    sys.stdout.write(json.dumps({"exit_code": code}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
