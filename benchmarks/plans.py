"""The plans that statements are run by, and what they may not do."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from app.core.db import ReadSession
from app.core.statements import Parameters

LARGE_TABLES = frozenset({"product", "product_tag", "product_category", "variant", "price", "category", "stock_level", "stock_movement"})
_MOST_ROWS = 1001
"""What a page may read of one table: as many candidates as a combination of filters may look at, and one more."""


class Explaining(ReadSession):
    """Runs each statement as it would be, and keeps it with its parameters and the plan that it was run by."""

    def __init__(self, connection: psycopg.AsyncConnection[TupleRow]) -> None:
        self._connection = connection
        self.query = ""
        self.parameters: Parameters = {}
        self.plan: dict[str, Any] = {}

    async def fetch_all(self, query: str, parameters: Parameters = {}) -> list[TupleRow]:  # noqa: B006 - never changed
        """The rows of a statement that is prepared first, as in `ReadSession`."""
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
        numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", query)
        execute = sql.SQL("EXECUTE page({})").format(sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names))
        await self._connection.execute(f"PREPARE page AS {numbered}".encode())
        rows = await self._rows(execute)
        ((explained,),) = await self._rows(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + execute)
        await self._connection.execute("DEALLOCATE page")
        self.query, self.parameters, self.plan = query, parameters, explained[0]["Plan"]
        return rows

    async def key_of(self, statement: str) -> tuple[str, ...]:
        """The row of a query as a sort key."""
        ((*key,),) = await self._rows(statement)
        return tuple(map(str, key))

    async def _rows(self, statement: Any) -> list[TupleRow]:
        return await (await self._connection.execute(statement)).fetchall()


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every node of a plan, from the top."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def pages_touched(plan: Mapping[str, Any]) -> int:
    """How many pages of the database a plan looked at, in shared buffers or not."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def assert_walks_an_index(plan: Mapping[str, Any], *, most_pages: int) -> None:
    """No table is read or sorted whole: no node meets more rows than a page may look at, and all together touch few pages of the database."""
    for node in nodes(plan):
        assert not (node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE_TABLES), node
        met = (node["Actual Rows"] + sum(value for name, value in node.items() if name.startswith("Rows Removed"))) * node["Actual Loops"]
        assert met <= _MOST_ROWS * 1.001, node
    assert pages_touched(plan) <= most_pages
