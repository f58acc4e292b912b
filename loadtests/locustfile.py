"""The scenarios for Locust: `locust` in this folder's parent, then http://localhost:8089; or headless, or on several processes and machines.

Locust is closed-loop: a user waits for each answer, so a slow server is asked less, and its queues stay hidden. It is for looking around and for load;
what is held against objectives comes from `python -m loadtests`.
"""

import logging
import os
import random
import time
from contextlib import ExitStack
from typing import Any

import gevent  # type: ignore[import-untyped] # it has no types
from locust import FastHttpUser, constant_throughput, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests import consistency, database, importing
from loadtests.api import Api, ApiError, UnreachableError
from loadtests.consistency import Check
from loadtests.database import libpq_url
from loadtests.exchanges import Answer, Request, kind_of
from loadtests.scenarios import SCENARIOS
from loadtests.shop import Shop, close_shop, open_shop

_log = logging.getLogger("stockroom")
_shops: list[Shop] = []

CANNOT_TELL = 2

_END, _CHECKED = "stockroom_end", "stockroom_checked"
_SECOND, _CHECK_SECONDS = 1.0, 60.0
_unheard: set[str] = set()
"""Of a master: workers that have not yet said whether the books agree."""


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
        _unheard.update(client.id for client in environment.runner.clients.ready)
        return
    options = environment.parsed_options
    try:
        shop = open_shop(Api(environment.host or "", options.username, _password(options)))
        if (url := _database_url()) is not None:
            database.look_into(url, shop.own_ids[0])
        _shops.append(shop)
    except (UnreachableError, ApiError) as error:
        _log.error("error: %s", error)
        _fail(environment, CANNOT_TELL)
        if options.headless:
            gevent.spawn_later(_SECOND, environment.runner.quit)


def _check(environment: Any, **_: Any) -> None:
    """Look over the books. Problems are in the log, and make the exit code 1."""
    if isinstance(environment.runner, MasterRunner):
        return
    if _shops:
        shop = _shops.pop()
        try:
            for check in consistency.check(shop, _database_url()):
                for problem in check.problems:
                    _log.error("%s: %s", check.name, problem)
                    _fail(environment, 1)
                _cannot_tell(environment, check)
                _log.info("%s: looked at %d, %s", check.name, check.looked_at, "does not hold" if check.problems else "holds")
            close_shop(shop)
        except (UnreachableError, ApiError) as error:
            _log.error("error: %s", error)
            _fail(environment, CANNOT_TELL)
    if isinstance(environment.runner, WorkerRunner):
        environment.runner.send_message(_CHECKED, environment.process_exit_code)


def _cannot_tell(environment: Any, check: Check) -> None:
    for reason in check.untold:
        _log.error("%s: cannot be told: %s", check.name, reason)
        _fail(environment, CANNOT_TELL)


def _password(options: Any) -> str:
    if options.password_env not in os.environ:
        raise UnreachableError(f"put the password of {options.username} into the variable {options.password_env} of every process")
    return os.environ[options.password_env]


def _database_url() -> str | None:
    return libpq_url(os.environ.get("APP_DATABASE_URL"))


def _fail(environment: Any, code: int) -> None:
    # What surely does not hold outweighs what cannot be told.
    environment.process_exit_code = 1 if 1 in (code, environment.process_exit_code) else code


def _end_workers(environment: Any, **_: Any) -> None:
    """Let the workers stop, and hear what they say of the books: the exit code is the master's, and it waits for nobody once it quits."""
    if not isinstance(environment.runner, MasterRunner):
        return
    environment.runner.send_message(_END)
    deadline = time.monotonic() + _CHECK_SECONDS
    while _unheard & set(environment.runner.clients) and time.monotonic() < deadline:
        time.sleep(0.1)
    if _unheard:
        _log.error("error: %d workers did not say whether the books agree", len(_unheard))
        _fail(environment, CANNOT_TELL)
        _unheard.clear()


def _between_master_and_workers(environment: Any, **_: Any) -> None:
    def end(environment: Any, **_: Any) -> None:
        environment.runner.stop()

    def checked(environment: Any, msg: Any, **_: Any) -> None:
        _unheard.discard(msg.node_id)
        if msg.data:
            _fail(environment, msg.data)

    if isinstance(environment.runner, WorkerRunner):
        environment.runner.register_message(_END, end)
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(_CHECKED, checked)


events.init_command_line_parser.add_listener(_add_options)  # type: ignore[no-untyped-call] # of locust
events.init.add_listener(_between_master_and_workers)  # type: ignore[no-untyped-call] # of locust
events.test_start.add_listener(_open)  # type: ignore[no-untyped-call] # of locust
events.test_stopping.add_listener(_end_workers)  # type: ignore[no-untyped-call] # of locust
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
        """Everything that operations choose from is there by now, unless the deployment did not answer."""
        if not _shops:
            return
        self._operations = SCENARIOS[self.scenario].draw(_shops[-1], random.Random())
        self._token = {"Authorization": f"Bearer {_shops[-1].api.token}"}

    @task
    def work(self) -> None:
        """One operation."""
        if not _shops:
            raise StopUser
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
    _beside: ExitStack | None = None
    _imports: importing.Imports
    _users = 0

    def on_start(self) -> None:
        """The first of them starts the import, on one worker of several."""
        Import._users += 1
        super().on_start()
        if _shops and Import._beside is None and getattr(self.environment.runner, "worker_index", 0) == 0:
            Import._beside, Import._imports = ExitStack(), importing.Imports()
            try:
                Import._imports = Import._beside.enter_context(importing.beside(_database_url()))
            except UnreachableError as error:
                _log.error("error: %s", error)
                _fail(self.environment, CANNOT_TELL)

    def on_stop(self) -> None:
        """The last of them ends it."""
        Import._users -= 1
        if Import._users or Import._beside is None:
            return
        beside, Import._beside = Import._beside, None
        beside.close()
        for problem in Import._imports.problems:
            _log.error("imports beside the load end well: %s", problem)
            _fail(self.environment, 1)
        _cannot_tell(self.environment, Import._imports.check)
