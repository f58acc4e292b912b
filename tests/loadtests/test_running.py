"""Load tests against a real server: what the open loop sees, the command's exit codes, and books that were tampered with."""

import asyncio
import io
import json
import math
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from typer.testing import CliRunner

from app.core.config import Settings
from loadtests import commands, consistency, importing, local, results
from loadtests.__main__ import app
from loadtests.api import Api, UnreachableError
from loadtests.consistency import Check
from loadtests.deployment import Deployment
from loadtests.measuring import Bench, bench
from loadtests.objectives import Objectives
from loadtests.offering import Outcome
from loadtests.results import Judged, Result
from loadtests.scenarios import SCENARIOS
from loadtests.shop import Attempt, Shop
from loadtests.steps import Step
from tests.loadtests.made import a_step, problems
from tests.serving.servers import ROOT, Server, free_port, until

STALL_SECONDS = 0.2


async def stall(server: Server) -> None:
    (worker,) = server.workers
    os.kill(worker, signal.SIGSTOP)
    await asyncio.sleep(STALL_SECONDS)
    os.kill(worker, signal.SIGCONT)


async def admitted(server: Server) -> float:
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as client:
        families = {family.name: family for family in text_string_to_metric_families((await client.get("/metrics")).text)}
    return families["stockroom_worker_requests"].samples[0].value


async def has_admitted(server: Server, requests: float) -> bool:
    return await admitted(server) > requests


async def command(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def measured(deployment: Deployment, scenario: str, *, rate: float, seconds: float) -> tuple[Step, Shop, list[Check]]:
    with bench(deployment, SCENARIOS[scenario]) as ready:
        step = ready.measure(rate, seconds, 1)
        return step, ready.shop, ready.checked()


async def test_the_open_loop_sees_a_stall_of_the_server_that_the_closed_loop_does_not(deployment: Deployment, target: Server) -> None:
    before = await admitted(target)
    opened = asyncio.create_task(asyncio.to_thread(measured, deployment, "browse", rate=200, seconds=3))
    # What it takes to look around and to make products, and then some of the load.
    await until(lambda: has_admitted(target, before + 500), 30)
    await stall(target)
    open_loop, _, _ = await opened

    before = await admitted(target)
    closed = asyncio.create_task(
        command(
            *("locust", "--headless", "--users", "1", "--run-time", "4s", "--rate-per-user", "0", "--host", target.url, "--json"),
            *("--username", deployment.username, "Browse"),
            environment={"STOCKROOM_PASSWORD": deployment.password},
        )
    )
    await until(lambda: has_admitted(target, before + 250), 30)
    await stall(target)
    code, output, errors = await closed
    assert code == 0, errors
    times: Counter[float] = Counter()
    for entry in json.loads(output):
        times.update({float(ms): count for ms, count in entry["response_times"].items()})
    in_order = sorted(times.elements())
    closed_p99_ms = in_order[math.ceil(0.99 * len(in_order)) - 1]

    assert in_order[-1] >= STALL_SECONDS * 1000 * 0.9
    assert open_loop.total.p99_ms is not None
    assert closed_p99_ms < 100 < 150 < open_loop.total.p99_ms


async def test_locust_on_several_processes_looks_over_the_books_of_each_and_its_exit_code_tells_of_them(deployment: Deployment) -> None:
    url = deployment.database_url
    assert url is not None

    async def locust(seconds: int) -> tuple[int, str]:
        code, _, log = await command(
            *("locust", "--headless", "--processes", "2", "--users", "2", "--run-time", f"{seconds}s", "--host", deployment.host),
            # Not of failed requests: of the books alone.
            *("--exit-code-on-error", "0", "--username", deployment.username, "HotSku"),
            environment={
                "STOCKROOM_PASSWORD": deployment.password,
                "APP_DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg://"),
            },
        )
        assert "Traceback" not in log
        return code, log

    code, log = await locust(3)
    assert code == 0, log
    assert log.count("every reservation is in the ledger once: looked at") == 2
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE stock_level SET on_hand = on_hand + 1 FROM variant WHERE variant.id = variant_id AND sku = 'LOADTEST-001'"
        )
    try:
        code, log = await locust(1)
    finally:
        with psycopg.connect(url) as connection:
            connection.execute("TRUNCATE stock_movement, stock_level, reservation, reservation_line, idempotency_key")
    assert code == 1, log
    assert "the ledger's sums are the levels: LOADTEST-001" in log


async def test_locust_says_who_is_not_let_in_and_ends(deployment: Deployment) -> None:
    code, _, log = await command(
        *(
            "locust",
            "--headless",
            "--users",
            "2",
            "--run-time",
            "60s",
            "--host",
            deployment.host,
            "--username",
            deployment.username,
            "Mixed",
        ),
        environment={"STOCKROOM_PASSWORD": "made up", "APP_DATABASE_URL": ""},
    )
    assert code == 2
    assert f"error: {deployment.host} does not let '{deployment.username}' in (401)" in log
    assert "Traceback" not in log


async def test_books_agree_after_reservations_and_no_longer_when_they_were_tampered_with(deployment: Deployment) -> None:
    step, shop, checks = await asyncio.to_thread(measured, deployment, "hot-sku", rate=20, seconds=2)
    assert (step.errors, problems(checks)) == ({}, [])
    assert {attempt.ended for attempt in shop.attempts} == {"committed", "released"}
    assert step.server is not None
    assert step.server.cpu_per_request_ms > 0
    assert (step.server.peak_connections or 0) >= 2
    # The hottest: of it the ledger is read.
    twice = next(attempt for attempt in shop.attempts if attempt.sku == shop.own_skus[0])
    double = """
        WITH again AS (
            INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
            SELECT variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id
            FROM stock_movement WHERE cause_id = %s AND reason = 'reserved' RETURNING *
        )
        UPDATE stock_level SET reserved = reserved + 1 FROM again
        WHERE stock_level.variant_id = again.variant_id AND stock_level.location_id = again.location_id
    """
    off = "UPDATE stock_level SET on_hand = on_hand + 1 FROM variant WHERE variant.id = variant_id AND sku = %s"
    assert deployment.database_url is not None
    with psycopg.connect(deployment.database_url) as connection:
        connection.execute(double, (twice.reservation_id,))
        connection.execute(off, (twice.sku,))
    try:
        found = {check.name: check.problems for check in await asyncio.to_thread(consistency.check, shop, deployment.database_url)}
    finally:
        shop.api.close()
        with psycopg.connect(deployment.database_url) as connection:
            connection.execute("TRUNCATE stock_movement, stock_level, reservation, reservation_line, idempotency_key")
    assert f"the reservation {twice.reservation_id} is in the ledger 2 times" in found["every reservation is in the ledger once"][0]
    assert found["the ledger's sums are the levels"][0].startswith(f"{twice.sku}: on_hand is")
    assert found["`stockroom stock reconcile` agrees"]


def test_a_reservation_whose_answer_was_lost_is_asked_for_again_and_found_in_the_ledger_once(deployment: Deployment) -> None:
    with bench(replace(deployment, database_url=None), SCENARIOS["hot-sku"]) as ready:
        ready.measure(20, 1, 1)
        unheard = ready.shop.attempts[0]
        unheard.reservation_id, reservation_id = None, unheard.reservation_id
        never_made = Attempt("never-made", unheard.sku)
        ready.shop.attempts.append(never_made)
        unheard.is_unheard = never_made.is_unheard = True
        assert problems(ready.checked()) == []
    assert (unheard.reservation_id, never_made.reservation_id is None) == (reservation_id, False)


async def test_the_command_fails_by_its_objectives_and_says_by_which(
    deployment: Deployment, loadtest_settings: Settings, tmp_path: Path
) -> None:
    objectives = tmp_path / "objectives.yaml"
    objectives.write_text("default: {p99_ms: 0.001, error_rate: 0}")
    code, output, errors = await command(
        *("loadtests", "run", "--host", deployment.host, "--username", deployment.username, "--rate", "30", "--duration", "3"),
        *("--output", str(tmp_path), "--objectives", str(objectives)),
        environment={"STOCKROOM_PASSWORD": deployment.password, "APP_DATABASE_URL": loadtest_settings.require_database_url()},
    )
    lines = output.splitlines()
    assert (code, [line for line in lines if line.startswith("FAIL")]) == (1, lines[-1:]), errors
    assert lines[-1].startswith("FAIL    p99_ms:")
    assert any(line.startswith("Run, mixed: 30 operations a second were offered for 3 s; p99") for line in lines)
    (found,) = results.read([tmp_path / "run.json"])
    assert (found.steps[0].step.errors, problems(found.checks), len(found.checks)) == ({}, [], 5)
    assert (tmp_path / "report.html").stat().st_size > 10_000


async def test_what_cannot_be_tested_is_said_in_a_line_and_exits_with_two() -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    code, _, errors = await command("loadtests", "run", "--host", gone, environment={"STOCKROOM_PASSWORD": "made up"})
    assert code == 2
    assert errors.startswith(f"error: {gone} does not answer")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("stockroom", "the database's URL should be postgresql://user:password@host:5432/name"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "PostgreSQL cannot be asked: connection failed"),
        ("another", "the database's URL leads to another Stockroom's database"),
        ("empty", "the database's URL leads to a database that is not Stockroom's"),
    ],
)
async def test_a_database_url_that_is_wrong_is_said_in_a_line_before_any_load(
    url: str, says: str, deployment: Deployment, settings: Settings, new_database: Callable[..., str]
) -> None:
    there = {"another": settings.require_database_url(), "empty": new_database("template1")}
    code, output, errors = await command(
        *("loadtests", "knee", "--host", deployment.host, "--username", deployment.username),
        environment={"STOCKROOM_PASSWORD": deployment.password, "APP_DATABASE_URL": there.get(url, url)},
    )
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {says}")
    assert "secret" not in errors


async def test_a_knee_is_not_looked_for_where_its_objectives_cannot_be_measured(deployment: Deployment, tmp_path: Path) -> None:
    code, _, errors = await command(
        *("loadtests", "knee", "--host", deployment.host, "--username", deployment.username, "--duration", "3", "--output", str(tmp_path)),
        environment={"STOCKROOM_PASSWORD": deployment.password, "APP_DATABASE_URL": ""},
    )
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: connections: not measured; give PostgreSQL's URL in APP_DATABASE_URL")


async def test_imports_beside_the_load_that_fail_are_told() -> None:
    with importing.beside("postgresql://127.0.0.1:1/none") as imports:
        await until(lambda: imports.problems, 30)
    assert imports.finished == 0
    assert imports.problems[0].startswith("import 1 ended with")


async def test_a_bench_tells_of_imports_that_fail(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_product", lambda *_: {"name": "a product without anything else"})

    def imported() -> Check:
        with bench(deployment, SCENARIOS["import"]) as ready:
            imports = ready.imports
            assert imports is not None
            deadline = time.monotonic() + 30
            while not imports.problems and time.monotonic() < deadline:
                time.sleep(0.05)
            return ready.checked()[-1]

    failed = await asyncio.to_thread(imported)
    assert (failed.problems[0][:21], failed.untold) == ("import 1 ended with 1", [])


def test_of_imports_of_which_none_ended_nothing_can_be_told() -> None:
    assert importing.Imports().check.untold
    assert importing.Imports(finished=1).check.untold == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("run --scenario nope", "there is no scenario 'nope'; there are browse"),
        ("run --arrivals nope --host http://127.0.0.1:1", "arrivals are poisson, constant, bursts"),
        ("run --host nowhere", "the host 'nowhere' should be http://NAME:PORT"),
        ("run --host http://127.0.0.1:port", "the host 'http://127.0.0.1:port' should be"),
        ("run --host http://a..b:1", "the host 'http://a..b:1' should be"),
        ("run --host http://[::1", "the host 'http://[::1' should be"),
        ("knee --host http://127.0.0.1:1 --metrics nowhere", "the metrics' address 'nowhere' should be"),
        ("knee --host http://127.0.0.1:1 --password-env NOWHERE", "put the password of admin@example.com into the variable NOWHERE"),
        ("knee --host http://127.0.0.1:1 --workers 2 --pool 2", "--workers and --pool are for servers that are started here"),
        ("knee --workers 2", "give --workers and --pool both"),
        ("sweep --workers 1,,2", "'1,,2' should be whole numbers from 1 on"),
        ("sweep --pools 0", "'0' should be whole numbers from 1 on"),
        ("run --objectives nowhere.yaml", "cannot read the objectives in nowhere.yaml"),
        ("report nowhere.json", "cannot read nowhere.json: No such file"),
        ("report README.md", "README.md is no result of a load test of this version: Invalid JSON"),
    ],
)
def test_wrong_input_is_said_in_a_line_and_exits_with_two(
    arguments: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOCKROOM_PASSWORD", "made up")
    output = [] if arguments.startswith("report") else ["--output", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments.split(), *output])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {says}")


def test_a_rate_that_nobody_can_offer_is_wrong_input() -> None:
    assert CliRunner().invoke(app, ["knee", "--start-rate", "4001"]).exit_code == 2


def test_what_nobody_expected_is_no_verdict_on_the_deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "sweep", lambda *_, **__: 1 / 0)
    done = CliRunner().invoke(app, ["sweep", "--output", str(tmp_path)])
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, "error: this is a fault of the load tests: division by zero")


def test_a_trial_that_breaks_off_keeps_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trial(*_: object) -> Iterator[Result]:
        yield Result(command="run", description="", scenario="mixed", objectives=Objectives(), steps=[Judged(a_step(), [])])
        raise commands.UnmeasuredError("the machine is busy")

    monkeypatch.setattr(commands, "trial", trial)
    assert CliRunner().invoke(app, ["trial", "--output", str(tmp_path)]).exit_code == 2
    assert results.read([tmp_path / "run.json"])


def test_a_trial_without_a_knee_ends_there(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    class Here:
        @staticmethod
        def running() -> AbstractContextManager[Deployment]:
            return nullcontext(deployment)

    def measure(_: Bench, rate: float, seconds: float, seed: int) -> Step:
        return a_step(rate, p99_ms=900, seconds=seconds, seed=seed)

    monkeypatch.setattr(local, "machine", lambda: nullcontext(Here()))
    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr(commands, "_SETTLE_SECONDS", 0)
    (result,) = commands.trial(Objectives(p99_ms=100), Console())
    assert (result.command, result.failures) == ("knee", ["no rate that was tried met the objectives"])


def test_a_knee_whose_server_dies_keeps_what_was_measured_and_says_that_it_ended_early(
    monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    def measure(_: Bench, rate: float, seconds: float, seed: int) -> Step:
        if rate > 500:
            raise UnreachableError("nobody answers")
        return a_step(rate, p99_ms=9, seconds=seconds, seed=seed)

    def is_gone(*_: object) -> None:
        raise UnreachableError("nobody answers")

    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr(Api, "delete", is_gone)
    monkeypatch.setattr(commands, "_SETTLE_SECONDS", 0)
    result = commands.knee(
        deployment, SCENARIOS["mixed"], Objectives(p99_ms=100), "poisson", start=50, seconds=4, seed=1, console=Console(file=io.StringIO())
    )
    assert result.steps
    assert "the search ended early: nobody answers" in result.untold


def test_latency_counts_from_when_a_request_was_due() -> None:
    assert Outcome("GET /", due=1.0, is_arrival=True, sent=1.5, finished=1.6).latency_ms == pytest.approx(600)
