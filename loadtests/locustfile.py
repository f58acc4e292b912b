"""The scenarios for Locust: `locust` in this folder's parent, then http://localhost:8089; or headless, or on several processes and machines.

Locust is closed-loop: a user waits for each answer, so a slow server is asked less, and its queues stay hidden. It is for looking around and for load;
what is held against objectives comes from `python -m loadtests`.
"""

import logging
import os
import random
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task
from locust.runners import MasterRunner

from loadtests import consistency, importing
from loadtests.api import Api
from loadtests.exchanges import Answer, Request, kind_of
from loadtests.scenarios import SCENARIOS
from loadtests.shop import Shop, close_shop, open_shop

_log = logging.getLogger("stockroom")
_shops: list[Shop] = []


def _add_options(parser: Any) -> None:
    parser.add_argument("--username", default="admin@example.com", help="A user who may write products, stock and reservations.")
    parser.add_argument(
        "--password-env", default="STOCKROOM_PASSWORD", include_in_web_ui=False, help="The variable with the user's password."
    )
    parser.add_argument(
        "--rate-per-user",
        type=float,
        default=10.0,
        help="Operations a second that a user aims for; 0 for the next as soon as the last is done.",
    )


def _open(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, MasterRunner):
        return
    options = environment.parsed_options
    _shops.append(open_shop(Api(environment.host, options.username, os.environ.get(options.password_env, ""))))


def _check(environment: Any, **_: Any) -> None:
    """Look over the books. Problems are in the log, and make the exit code 1."""
    if isinstance(environment.runner, MasterRunner) or not _shops:
        return
    for check in consistency.check(_shops[-1], os.environ.get("APP_DATABASE_URL")):
        for problem in check.problems:
            _log.error("%s: %s", check.name, problem)
            environment.process_exit_code = 1
        _log.info("%s: looked at %d, %s", check.name, check.looked_at, "does not hold" if check.problems else "holds")
    close_shop(_shops[-1])


events.init_command_line_parser.add_listener(_add_options)  # type: ignore[no-untyped-call] # of locust
events.test_start.add_listener(_open)  # type: ignore[no-untyped-call] # of locust
events.test_stop.add_listener(_check)  # type: ignore[no-untyped-call] # of locust


class _Client(FastHttpUser):
    """One client, that does one operation after the other."""

    abstract = True
    scenario: str

    def wait_time(self) -> float:
        """As long as it takes to keep to the rate."""
        rate = self.environment.parsed_options.rate_per_user
        return float(constant_throughput(rate)(self)) if rate else 0.0

    def on_start(self) -> None:
        """Everything that operations choose from is there by now."""
        self._operations = SCENARIOS[self.scenario].draw(_shops[-1], random.Random())
        self._token = {"Authorization": f"Bearer {_shops[-1].api.token}"}

    @task
    def work(self) -> None:
        """One operation."""
        operation = next(self._operations)
        answer: Answer | None = None
        while True:
            try:
                request = next(operation) if answer is None else operation.send(answer)
            except StopIteration:
                return
            answer = self._ask(request)

    def _ask(self, request: Request) -> Answer:
        headers = {**self._token, **request.headers}
        with self.client.request(
            request.method, request.path, name=request.name, headers=headers, data=request.body.decode() or None, catch_response=True
        ) as response:
            answer = Answer(response.status_code or 0, response.content or b"", response.headers and response.headers.get("Retry-After"))
            match kind_of(request, answer):
                case "served":
                    response.success()
                case "refused":
                    response.failure(f"refused ({answer.status})")
                case "error":
                    response.failure(f"error ({answer.status or 'no answer'})")
        return answer


class Mixed(_Client):
    """The acceptance workload: 80 reads, 12 lists with filters, 6 reserve and commit, 2 writes."""

    scenario = "mixed"


class Browse(_Client):
    """What a storefront asks: 80 % single reads, 20 % lists."""

    scenario = "browse"


class HotSku(_Client):
    """A sale: most want the same few SKUs."""

    scenario = "hot-sku"


class Login(_Client):
    """A login burst."""

    scenario = "login"


class Import(_Client):
    """Browsing while `stockroom import` runs beside it. Needs the database's URL in APP_DATABASE_URL."""

    scenario = "import"
    _beside: Any = None
    _users = 0

    def on_start(self) -> None:
        """The first of them starts the import."""
        super().on_start()
        if Import._beside is None:
            Import._beside = importing.beside(os.environ.get("APP_DATABASE_URL"))
            Import._beside.__enter__()
        Import._users += 1

    def on_stop(self) -> None:
        """The last of them ends it."""
        Import._users -= 1
        if not Import._users:
            beside, Import._beside = Import._beside, None
            beside.__exit__(None, None, None)
