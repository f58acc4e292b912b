"""`stockroom import`: a file into the catalogue."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, Self

import typer

if TYPE_CHECKING:
    from app.importers import ImportFile, Row, RowError
    from app.services.imports import Summary

_PLAIN_PROGRESS_SECONDS: Final = 10.0
_USAGE_ERROR: Final = 2
_INTERRUPTED: Final = 128 + signal.SIGINT
"""What a shell makes of a program that SIGINT ended."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(show_default=False, help="The file; one packed with gzip is unpacked.")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format", show_default=False, metavar="shopify|jsonl|bestbuy-categories|bestbuy-stores", help="Detected unless given."
        ),
    ] = None,
    currency: Annotated[str, typer.Option(help="The currency of prices that name none (ISO 4217).")] = "EUR",
    location: Annotated[str, typer.Option(help="The code of the location for stock that names none; made when it is missing.")] = "MAIN",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write each batch of rows and roll it back: all is checked and counted, nothing is stored."),
    ] = False,
    errors: Annotated[
        Path | None, typer.Option(show_default=False, help="Where errors go; unless given, FILE.errors.jsonl in this folder.")
    ] = None,
) -> None:
    """Import products, categories or locations. Importing the same file again changes nothing.

    Rows that fail are told in a file, a JSON object a line, and make the exit code 1; all others are stored.

    Ctrl-C stops after the batch of rows at hand.
    """
    from app.importers import detect_format, open_import, parse

    _check_location(location)
    errors = errors or Path(f"{file.name}.errors.jsonl")
    with ExitStack() as stack:
        try:
            format_name = format_name or detect_format(file)
            opened = stack.enter_context(open_import(file))
        except OSError as error:
            _refuse(f"cannot read {file}: {error.strerror}")
        if format_name is None:
            _refuse(f"cannot tell the format of {file}; say it with --format:\n{_formats()}")
        try:
            rows = parse(opened.stream, format_name, currency=currency)
        except ValueError as error:
            _refuse(str(error))
        failures = stack.enter_context(_ErrorFile(errors, imported=file))
        show = stack.enter_context(_progress(opened))
        interrupt = stack.enter_context(_Interrupt())
        summary = asyncio.run(_load(interrupt.until(rows), location, dry_run=dry_run, on_error=failures.write, on_progress=show))
    _show(summary, location)
    if interrupt.happened:
        typer.echo(f"stopped by Ctrl-C after line {summary.last_line}; importing the file again is safe and stores the rest", err=True)
    if dry_run:
        typer.echo("dry run: nothing was stored")
    if summary.failed_rows:
        typer.echo(f"{summary.failed_rows} of {summary.rows} rows failed; {errors} says why", err=True)
    if interrupt.happened or summary.failed_rows:
        raise typer.Exit(_INTERRUPTED if interrupt.happened else 1)


def _check_location(code: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from app.schemas.values import LocationCode

    try:
        TypeAdapter(LocationCode).validate_python(code)
    except ValidationError:
        _refuse(f"{code!r} is no code of a location; write at most 32 letters, digits and . _ -")


def _refuse(text: str) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(_USAGE_ERROR)


def _formats() -> str:
    from app.importers import FORMATS

    return "\n".join(f"  {name:<18}  {kind.description}" for name, kind in FORMATS.items())


class _ErrorFile:
    """A JSON object a line, written anew by each import; when it did not exist and there are no errors, it does not exist after."""

    def __init__(self, path: Path, *, imported: Path) -> None:
        if path.exists() and path.samefile(imported):
            _refuse(f"errors cannot be written over {imported} itself; choose another file with --errors")
        self._path = path
        self._is_kept = path.exists()

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            _refuse(f"cannot write {self._path}: {error.strerror}; choose another file with --errors")
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._file.close()
        if not self._is_kept:
            self._path.unlink()

    def write(self, error: "RowError") -> None:
        import orjson

        self._file.write(orjson.dumps({"line": error.line, "field": error.field, "message": error.message}) + b"\n")
        self._is_kept = True


@contextmanager
def _progress(file: "ImportFile") -> Iterator[Callable[["Summary"], None]]:
    """What shows how far an import is: a bar on a terminal, else a line from time to time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    started = time.monotonic()
    if not console.is_terminal:
        yield _plain_progress(file, started)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=file.size_bytes)
        yield lambda summary: bar.update(task, completed=file.consumed_bytes(), description=_pace(summary, started))


def _plain_progress(file: "ImportFile", started: float) -> Callable[["Summary"], None]:
    last_shown = started

    def show(summary: "Summary") -> None:
        nonlocal last_shown
        now = time.monotonic()
        if now - last_shown < _PLAIN_PROGRESS_SECONDS:
            return
        last_shown = now
        done = file.consumed_bytes() / max(file.size_bytes, 1)
        left_seconds = (now - started) * (1 - done) / max(done, 1e-9)
        typer.echo(f"{done:4.0%}  {_pace(summary, started)}, {left_seconds:.0f} s left", err=True)

    return show


def _pace(summary: "Summary", started: float) -> str:
    return f"{summary.last_line:,} lines, {summary.last_line / (time.monotonic() - started):,.0f} a second"


class _Interrupt:
    """Ctrl-C, the first time, ends the rows, so that those at hand are still stored; the second time it ends the program."""

    happened = False

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def until(self, rows: Iterable["Row"]) -> Iterator["Row"]:
        for row in rows:
            if self.happened:
                return
            yield row

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.happened = True
        signal.signal(signal.SIGINT, self._previous)


async def _load(
    rows: Iterable["Row"],
    location: str,
    *,
    dry_run: bool,
    on_error: Callable[["RowError"], None],
    on_progress: Callable[["Summary"], None],
) -> "Summary":
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError

    from app.cli.database import command_database
    from app.core.config import get_settings
    from app.core.db import problem_from
    from app.core.problems import DatabaseUnavailable
    from app.services import imports

    last_line = 0
    # The modules stay as long as the process: the garbage collector need not look at them again and again, which took a fifth of the time.
    gc.freeze()

    def note(summary: "Summary") -> None:
        nonlocal last_line
        last_line = summary.last_line
        on_progress(summary)

    async with command_database(get_settings()) as database:
        try:
            return await imports.load_rows(database, rows, location=location, dry_run=dry_run, on_error=on_error, on_progress=note)
        except (psycopg.Error, SQLAlchemyError) as error:
            if last_line:
                typer.echo(f"stopped after line {last_line}; importing the file again is safe and stores the rest", err=True)
            problem = problem_from(error)
            # Of a database that is gone the driver tells more than the problem, which is worded for clients.
            if problem is None or isinstance(problem, DatabaseUnavailable):
                raise
            raise problem from None


def _show(summary: "Summary", location: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", box=None, pad_edge=False)
    for heading in ("created", "updated", "unchanged"):
        table.add_column(heading, justify="right")
    for name in ("products", "variants", "categories", "locations", "stock_levels"):
        tally = getattr(summary, name)
        if tally.created or tally.updated or tally.unchanged:
            table.add_row(name.replace("_", " "), *(f"{count:,}" for count in (tally.created, tally.updated, tally.unchanged)))
    if table.row_count:
        Console(highlight=False).print(table)
    if summary.derived_skus:
        typer.echo(f"{summary.derived_skus:,} variants came without a SKU and have one made from their product and options")
    if summary.default_location_made:
        typer.echo(f"the location {location} was made for stock that names none")
    if not summary.has_changes:
        typer.echo("nothing changed" + (": the catalogue said all of this already" if summary.rows > summary.failed_rows else ""))
