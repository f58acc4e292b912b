"""From rows to transactions: rows are checked one by one, gathered into batches, and a batch is stored as a whole or tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import orjson
import psycopg
from pydantic import ValidationError

from app.core.db import Database, WriteSession, problem_from
from app.core.problems import Conflict, Overloaded
from app.importers import CategoryRow, LocationRow, ProductRow, Row, RowError
from app.importers.demo import demo_catalogue
from app.services.imports import categories, locations, products
from app.services.imports.summary import Stored, Summary

DEFAULT_LOCATION: Final = "MAIN"
"""The code of the location for stock that names none."""

_BATCH_BYTES: Final = 512 * 1024
"""As JSON. The objects it is read into take ten times as much, and where lists are nested for nothing, sixty times."""

_BATCH_ERRORS: Final = 500
_MOST_ERRORS_A_ROW: Final = 300
_RETRY_PAUSES_SECONDS: Final = (0.1, 0.5, 2.0)

# For `/metrics`: an import is over before anybody could scrape it.
_COUNT = """
INSERT INTO import_total AS total (outcome, rows) VALUES ('failed', %(failed)s), ('stored', %(stored)s)
ON CONFLICT (outcome) DO UPDATE SET rows = total.rows + excluded.rows
"""


async def load_rows(
    database: Database,
    rows: Iterable[Row],
    *,
    location: str = DEFAULT_LOCATION,
    dry_run: bool = False,
    on_error: Callable[[RowError], None] = lambda _: None,
    on_progress: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Store rows in the catalogue.

    - A product is known by its slug, a variant by its SKU, a category by its slug, a location by its code. What a row names replaces what
      is stored; what it does not name stays, and nothing is archived or deleted. A slug or code that comes twice is stored twice: the last
      one wins, and rows that contradict each other change things every time.
    - A row is stored whole or not at all. One that breaks a rule or contradicts what is stored (another product's SKU, a category that does
      not exist or lies elsewhere in the tree) fails; the others stay.
    - Stock is set, not added: the difference becomes a movement with the reason `imported`.
    - Rows are stored in batches, a transaction each. An import that ended early is finished by importing the same again, because what is
      the same already is not touched, not even its version and time.

    Args:
        rows: read once, as they are needed; memory is bounded by a batch.
        location: the code of the location for stock that names none; made when it is needed and missing.
        dry_run: write everything, but roll every batch back. Rows that contradict each other are then noticed only within a batch.
        on_error: told everything that is wrong with a row, after its batch was stored; by line within a batch.
        on_progress: told after each batch.

    Returns:
        What it did, or with `dry_run` would have done.

    Raises:
        psycopg.Error: the database failed, or others kept changing the same things. What was stored before stays.
    """
    summary = Summary()
    kinds: _Kinds = {
        ProductRow: _Kind(
            partial(products.check, location=location),
            partial(products.store, location=location, import_id=summary.import_id),
            most_rows=500,
        ),
        CategoryRow: _Kind(categories.check, categories.store, most_rows=5_000),
        LocationRow: _Kind(locations.check, locations.store, most_rows=5_000),
    }
    for batch in _batches(rows, kinds):
        stored, conflicts = await _store(database, batch, dry_run=dry_run)
        errors = sorted(batch.errors + conflicts, key=lambda error: error.line)
        summary.add(stored)
        rows_stored, rows_failed = batch.outcome(conflicts)
        summary.rows += rows_stored + rows_failed
        summary.failed_rows += rows_failed
        summary.last_line = batch.last_line
        for error in errors:
            on_error(error)
        on_progress(summary)
    return summary


async def load_demo(database: Database) -> Summary:
    """Store the demo catalogue, like any other import."""
    return await load_rows(database, demo_catalogue())


@dataclass(frozen=True, slots=True)
class _Kind:
    """How rows of one type are stored; `check` gives a key and what `store` takes, and two rows with one key never share a batch."""

    check: Callable[[Any], tuple[str, Any]]
    store: Callable[[WriteSession, Sequence[Any], Stored], Awaitable[list[RowError]]]
    most_rows: int


_Kinds: TypeAlias = Mapping[type, _Kind]


@dataclass(slots=True)
class _Batch:
    """Rows of one type, and the errors that came before and between them."""

    kind: _Kind | None = None
    rows: list[Any] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    errors: list[RowError] = field(default_factory=list)
    size_bytes: int = 0
    last_line: int = 0

    def takes(self, kind: _Kind, key: str) -> bool:
        return not self.rows or (self.kind is kind and key not in self.keys)

    def outcome(self, conflicts: Sequence[RowError]) -> tuple[int, int]:
        """How many rows are stored and how many are not, when these could not be."""
        unread = {error.line for error in self.errors}
        failed = len(unread | {error.line for error in conflicts})
        return len(self.rows) + len(unread) - failed, failed

    def is_full(self) -> bool:
        most_rows = self.kind.most_rows if self.kind else 1
        return len(self.rows) >= most_rows or len(self.errors) >= _BATCH_ERRORS or self.size_bytes >= _BATCH_BYTES


def _batches(rows: Iterable[Row], kinds: _Kinds) -> Iterator[_Batch]:
    batch = _Batch()
    for row in rows:
        if isinstance(row, RowError):
            batch.errors.append(row)
        else:
            kind = kinds[type(row)]
            try:
                size_bytes = len(orjson.dumps(row.product if isinstance(row, ProductRow) else row))
                key, checked = kind.check(row)
            except orjson.JSONEncodeError as error:
                batch.errors.append(RowError(row.line, f"The row cannot be stored: {error}."))
            except ValidationError as error:
                batch.errors += _row_errors(row.line, error)
            else:
                if not batch.takes(kind, key):
                    yield batch
                    batch = _Batch()
                batch.kind = kind
                batch.rows.append(checked)
                batch.keys.add(key)
                batch.size_bytes += size_bytes
        batch.last_line = row.line
        if batch.is_full():
            yield batch
            batch = _Batch()
    if batch.rows or batch.errors:
        yield batch


def _row_errors(line: int, error: ValidationError) -> list[RowError]:
    # A hostile row has more errors than fit into memory as texts.
    if error.error_count() > _MOST_ERRORS_A_ROW:
        return [RowError(line, f"{error.error_count()} values are not acceptable.")]
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [RowError(line, f"{part['msg']}.", "".join(f"/{_escaped(step)}" for step in part["loc"])) for part in found]


def _escaped(step: int | str) -> str:
    """A reference token of a JSON pointer (RFC 6901 section 3)."""
    return str(step).replace("~", "~0").replace("/", "~1")


async def _store(database: Database, batch: _Batch, *, dry_run: bool) -> tuple[Stored, list[RowError]]:
    for pause_seconds in _RETRY_PAUSES_SECONDS:
        try:
            return await _store_once(database, batch, dry_run=dry_run)
        except psycopg.Error as error:
            # Somebody else took a lock, a slug or a SKU at the same moment; a second look sees what they did.
            if not isinstance(problem_from(error), Conflict | Overloaded):
                raise
        await asyncio.sleep(pause_seconds)
    return await _store_once(database, batch, dry_run=dry_run)


async def _store_once(database: Database, batch: _Batch, *, dry_run: bool) -> tuple[Stored, list[RowError]]:
    stored = Stored()
    async with database.write() as session:
        errors = await batch.kind.store(session, batch.rows, stored) if batch.kind else []
        if dry_run:
            await session.rollback()
        else:
            # Last: all imports count in the same two rows.
            rows_stored, rows_failed = batch.outcome(errors)
            await session.fetch_all(_COUNT, {"stored": rows_stored, "failed": rows_failed})
    return stored, errors
