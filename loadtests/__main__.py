"""`python -m loadtests`: whether a deployment meets its objectives, where its knee is, and whether its sizing is right."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, cast, get_args

import click
import typer
from rich.console import Console

from loadtests import commands, objectives, report, results
from loadtests.api import ApiError, UnreachableError
from loadtests.arrivals import Arrivals
from loadtests.commands import UnmeasuredError
from loadtests.deployment import Deployment, Sizing, from_environment
from loadtests.exchanges import address_of
from loadtests.knee import MOST_RATE
from loadtests.objectives import ObjectivesError
from loadtests.results import Result, ResultError
from loadtests.scenarios import SCENARIOS, Scenario
from loadtests.summary import summary

CANNOT_TELL = 2

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_console = Console(highlight=False, soft_wrap=True)

_Scenario = Annotated[str, typer.Option(help=", ".join(SCENARIOS))]
_Host = Annotated[
    str | None,
    typer.Option(help="Where the service answers. Without it one is started here, on an embedded PostgreSQL.", show_default=False),
]
_Username = Annotated[str, typer.Option(help="A user who may write products, stock and reservations.")]
_PasswordEnv = Annotated[str, typer.Option(help="The variable with the user's password.")]
_Metrics = Annotated[
    str | None, typer.Option(help="Where /metrics is, every address of its name; HOST/metrics unless given.", show_default=False)
]
_DatabaseEnv = Annotated[
    str, typer.Option("--database-url-env", help="The variable with PostgreSQL's URL, for pg_stat_activity and `stock reconcile`.")
]
_Duration = Annotated[float, typer.Option(min=3, max=86_400, help="Seconds a step.")]
_Seed = Annotated[int, typer.Option(help="Of arrivals and of what they ask for.")]
_Output = Annotated[Path, typer.Option(help="The folder for report.html and the results.")]
_Objectives = Annotated[Path, typer.Option(help="The objectives.", show_default="loadtests/objectives.yaml")]
_Kind = Annotated[str, typer.Option("--arrivals", help="poisson, constant or bursts.")]
_Workers = Annotated[int | None, typer.Option(min=1, help="Only without --host: workers, whatever the plan says.", show_default=False)]
_Pool = Annotated[
    int | None, typer.Option(min=1, help="Only without --host: connections of each pool, whatever the plan says.", show_default=False)
]


@app.command()
def run(
    *,
    rate: Annotated[float, typer.Option(min=0.1, max=MOST_RATE, help="Operations a second.")] = 50,
    duration: _Duration = 30,
    scenario: _Scenario = "mixed",
    host: _Host = None,
    username: _Username = "admin@example.com",
    password_env: _PasswordEnv = "STOCKROOM_PASSWORD",
    metrics: _Metrics = None,
    database_env: _DatabaseEnv = "APP_DATABASE_URL",
    objectives_file: Annotated[Path, typer.Option("--objectives", help="The objectives.")] = objectives.FILE,
    arrivals: _Kind = "poisson",
    seed: _Seed = 1,
    workers: _Workers = None,
    pool: _Pool = None,
    output: _Output = Path("loadtest-results"),
) -> None:
    """Offer a rate for a while, hold it against the objectives, and look over the books. Exits with 0, 1 (it does not hold) or 2 (cannot tell)."""
    with _explained():
        output.mkdir(parents=True, exist_ok=True)
        wanted, limits = _scenario(scenario), objectives.load(objectives_file, scenario)
        with _deployment(host, username, password_env, metrics, database_env, _sizing(workers, pool)) as deployment:
            found = commands.run(deployment, wanted, limits, _kind(arrivals), rate=rate, seconds=duration, seed=seed, console=_console)
        _end([found], output)


@app.command()
def knee(
    *,
    start_rate: Annotated[
        float, typer.Option(min=1, max=MOST_RATE / max(commands.CALIBRATION), help="Operations a second, of the first step.")
    ] = 50,
    duration: _Duration = 8,
    scenario: _Scenario = "mixed",
    host: _Host = None,
    username: _Username = "admin@example.com",
    password_env: _PasswordEnv = "STOCKROOM_PASSWORD",
    metrics: _Metrics = None,
    database_env: _DatabaseEnv = "APP_DATABASE_URL",
    objectives_file: Annotated[Path, typer.Option("--objectives", help="The objectives.")] = objectives.FILE,
    arrivals: _Kind = "poisson",
    seed: _Seed = 1,
    workers: _Workers = None,
    pool: _Pool = None,
    output: _Output = Path("loadtest-results"),
) -> None:
    """Find the highest rate that still meets the objectives, and what binds there. Exits with 0, 1 (it does not hold) or 2 (cannot tell)."""
    with _explained():
        output.mkdir(parents=True, exist_ok=True)
        wanted, limits = _scenario(scenario), objectives.load(objectives_file, scenario)
        with _deployment(host, username, password_env, metrics, database_env, _sizing(workers, pool)) as deployment:
            found = commands.knee(
                deployment, wanted, limits, _kind(arrivals), start=start_rate, seconds=duration, seed=seed, console=_console
            )
        _end([found], output)


@app.command()
def sweep(
    *,
    workers: Annotated[str, typer.Option(help="Numbers of workers, with commas.")] = "1,2",
    pools: Annotated[str, typer.Option(help="Pool sizes, with commas.")] = "2,5,10",
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each point is compared, 25 seconds each; fewer than six prove nothing.")
    ] = 12,
    overload_rate: Annotated[
        float, typer.Option(min=1, max=MOST_RATE, help="Operations a second, to be a little more than can be served; changed until it is.")
    ] = 600,
    normal_rate: Annotated[float, typer.Option(min=1, max=MOST_RATE, help="Operations a second, well below the knee.")] = 300,
    duration: _Duration = 6,
    scenario: _Scenario = "mixed",
    objectives_file: Annotated[Path, typer.Option("--objectives", help="The objectives.")] = objectives.FILE,
    output: _Output = Path("loadtest-results"),
) -> None:
    """Compare workers x pool sizes with the derived ones, on servers that are started here. Exits with 0, 1 (others are better) or 2 (cannot tell)."""
    with _explained():
        output.mkdir(parents=True, exist_ok=True)
        wanted, limits = _scenario(scenario), objectives.load(objectives_file, scenario)
        points = [Sizing(each, size) for each in _numbers(workers) for size in _numbers(pools)]
        found = commands.sweep(
            points, wanted, limits, rounds=rounds, overload=overload_rate, normal=normal_rate, seconds=duration, console=_console
        )
        _end([found], output)


@app.command()
def trial(output: _Output = Path("loadtest-results")) -> None:
    """Everything in some two minutes on this machine: the knee, a run below it, a small sweep. It shows the way; its figures are coarse."""
    with _explained():
        output.mkdir(parents=True, exist_ok=True)
        found = []
        for result in commands.trial(objectives.load(objectives.FILE, "mixed"), _console):
            # At once: whatever becomes of the rest, this was measured.
            results.write(result, output / f"{result.command}.json")
            found.append(result)
        _end(found, output)


@app.command("report")
def write_report(
    files: Annotated[list[Path], typer.Argument(help="Results, as the other commands left them.")],
    output: Annotated[Path, typer.Option(help="The report.")] = Path("report.html"),
) -> None:
    """Put results together into one report. Exits as the commands did that left them; with several, as the worst of them."""
    with _explained():
        found = results.read(files)
        output.write_text(report.page(found), encoding="utf-8")
    _say_and_exit(found, output)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what a person can mend into a line on standard error."""
    try:
        yield
    except (typer.Exit, typer.Abort, click.ClickException):
        raise
    except (UnreachableError, ApiError, ObjectivesError, ResultError, UnmeasuredError, OSError) as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - exit 1 would say that the deployment misses something
        traceback.print_exc()
        _fail(f"this is a fault of the load tests: {error}")


@contextmanager
def _deployment(
    host: str | None, username: str, password_env: str, metrics: str | None, database_env: str, sizing: Sizing | None
) -> Iterator[Deployment]:
    if host is None:
        try:
            from loadtests.local import machine
        except ImportError as error:
            _fail(f"starting a server here needs the development environment ({error.name} is missing); name one that runs:  --host URL")
        with _console.status("starting PostgreSQL and a server …"), machine() as here, here.running(sizing) as deployment:
            yield deployment
        return
    if sizing is not None:
        _fail("--workers and --pool are for servers that are started here; leave --host out")
    if password_env not in os.environ:
        _fail(f"put the password of {username} into the variable {password_env}, or name another one:  --password-env NAME")
    deployment = from_environment(host, username, password_env, metrics, database_env, os.environ)
    for name, url in (("host", deployment.host), ("metrics' address", deployment.metrics_url)):
        try:
            address_of(url)
        except ValueError as error:
            _fail(f"the {name} {error}")
    yield deployment


def _end(found: Sequence[Result], output: Path) -> NoReturn:
    for result in found:
        results.write(result, output / f"{result.command}.json")
    file = output / "report.html"
    file.write_text(report.page(found), encoding="utf-8")
    _say_and_exit(found, file)


def _say_and_exit(found: Sequence[Result], file: Path) -> NoReturn:
    """The last lines, and the exit code: what surely does not hold outweighs what cannot be told."""
    failures = [failure for result in found for failure in result.failures]
    untold = [reason for result in found for reason in result.untold]
    for line in summary(found):
        # A verdict that is a reason below need not stand here too.
        if not any(reason in line for reason in (*failures, *untold)):
            _console.print(line, markup=False)
    _console.print(f"report  {file}")
    for failure in failures:
        _console.print(f"FAIL    {failure}", markup=False)
    for reason in untold:
        _console.print(f"UNTOLD  {reason}", markup=False)
    if not failures and not untold:
        _console.print("PASS    every objective is met and the books agree")
    raise typer.Exit(1 if failures else CANNOT_TELL if untold else 0)


def _scenario(name: str) -> Scenario:
    if name not in SCENARIOS:
        _fail(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def _kind(name: str) -> Arrivals:
    if name not in get_args(Arrivals):
        _fail(f"arrivals are {', '.join(get_args(Arrivals))}, not {name!r}")
    return cast("Arrivals", name)


def _sizing(workers: int | None, pool: int | None) -> Sizing | None:
    if workers is None and pool is None:
        return None
    if workers is None or pool is None:
        _fail("give --workers and --pool both, or neither")
    return Sizing(workers, pool)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        _fail(f"{text!r} should be whole numbers from 1 on, with commas between them")
    return [int(part) for part in parts]


def _fail(text: str) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    sys.exit(CANNOT_TELL)


if __name__ == "__main__":
    app()
