"""After a run: whether the books still agree, and whether every reservation happened exactly as often as its client was told."""

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.api import Api, ApiError
from loadtests.shop import LOCATION, Attempt, Shop

_MOST_SKUS = 5
_MOST_REPLAYS = 100
_LOOKS = 5
_OUT_OF_STOCK = 409
_ENDS = {"committed": "committed", "released": "released"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what should hold.
        problems: where it does not; empty when it does.
        looked_at: how many things.
        untold: what could not be looked at, and why.
    """

    name: str
    problems: list[str]
    looked_at: int
    untold: list[str] = field(default_factory=list)


def check(shop: Shop, database_url: str | None) -> list[Check]:
    """Look over the books, by the API and, with a database URL, by `stockroom stock reconcile`.

    Levels are those of all the products that were written to. Ledgers are read of the `_MOST_SKUS` that were reserved most, and of those whose
    reservations were answered with nothing or an error: they are asked for again first, since with their key they must be one and the same.
    Other traffic may go on: levels that change meanwhile are read again, and only what this run did is held against what it was told.
    """
    replays = _replays(shop)
    attempts: dict[str, list[Attempt]] = {}
    for attempt in shop.attempts:
        attempts.setdefault(attempt.sku, []).append(attempt)
    unheard = [attempt.sku for attempt in shop.attempts if attempt.is_unheard]
    skus = list(dict.fromkeys([*sorted(attempts, key=lambda sku: -len(attempts[sku]))[:_MOST_SKUS], *unheard]))
    movements = {sku: _settled(shop.api, sku) for sku in skus or shop.own_skus[:1]}
    checks = [
        Check("the ledger's sums are the levels", [text for sku, seen in movements.items() for text in _sums(sku, seen)], len(movements)),
        Check("no level is oversold", list(_oversold(shop)), len(shop.own_skus)),
        Check(
            "every reservation is in the ledger once",
            [text for sku in skus for text in _effects(attempts[sku], movements[sku])],
            sum(attempt.reservation_id is not None for sku in skus for attempt in attempts[sku]),
        ),
        replays,
    ]
    if database_url is not None:
        checks.append(_reconciled(database_url))
    return checks


@dataclass(frozen=True, slots=True)
class _Books:
    on_hand: int
    reserved: int
    movements: list[Any]


def _settled(api: Api, sku: str) -> _Books:
    """A level and its whole ledger, read without a change in between if that can be had."""
    level, movements = _level(api, sku), []
    for _ in range(_LOOKS):
        movements = [movement for page in api.pages("/stock/movements", sku=sku, location=LOCATION) for movement in page]
        before, level = level, _level(api, sku)
        if before == level:
            break
    return _Books(*level, movements)


def _level(api: Api, sku: str) -> tuple[int, int]:
    (item,) = api.get("/stock", sku=sku, location=LOCATION)["items"]
    return item["on_hand"], item["reserved"]


def _sums(sku: str, books: _Books) -> Iterable[str]:
    for name, level in (("on_hand", books.on_hand), ("reserved", books.reserved)):
        total = sum(movement[f"delta_{name}"] for movement in books.movements)
        if total != level:
            yield f"{sku}: {name} is {level}, the ledger's sum is {total}"


def _oversold(shop: Shop) -> Iterable[str]:
    for page in shop.api.pages("/stock", sku=shop.own_skus, location=LOCATION):
        for item in page:
            if item["on_hand"] < 0 or item["reserved"] < 0 or item["reserved"] > item["on_hand"]:
                yield f"{item['sku']}: {item['reserved']} of {item['on_hand']} on hand are reserved"


def _effects(attempts: list[Attempt], books: _Books) -> Iterable[str]:
    seen = Counter((movement["cause_id"], movement["reason"]) for movement in books.movements)
    for attempt in attempts:
        if attempt.reservation_id is None:
            continue
        if (times := seen[attempt.reservation_id, "reserved"]) != 1:
            yield f"{attempt.sku}: the reservation {attempt.reservation_id} is in the ledger {times} times"
        ended = {name: seen[attempt.reservation_id, reason] for name, reason in _ENDS.items()}
        told = {name: int(attempt.ended == name) for name in _ENDS}
        if (attempt.ended == "unknown" and sum(ended.values()) > 1) or (attempt.ended != "unknown" and ended != told):
            yield f"{attempt.sku}: the reservation {attempt.reservation_id} was told to be {attempt.ended}; the ledger has {ended}"


def _replays(shop: Shop) -> Check:
    """Send keys once more: the answer must be the one there was, and where none was heard the ledger must have it once."""
    problems = [f"{attempt.key}: answered with two reservations" for attempt in shop.attempts if attempt.differing]
    untold = []
    unheard = [attempt for attempt in shop.attempts if attempt.is_unheard and attempt.reservation_id is None]
    acknowledged = [attempt for attempt in shop.attempts if attempt.reservation_id is not None]
    sent = [*_some(unheard), *_some(acknowledged)]
    for attempt in sent:
        try:
            found = shop.api.post("/reservations", attempt.body, key=attempt.key)["id"]
        except ApiError as error:
            if error.is_refusal:
                untold.append(str(error))
            elif attempt.reservation_id is not None or error.status != _OUT_OF_STOCK:
                problems.append(str(error))
        else:
            if attempt.reservation_id not in (None, found):
                problems.append(f"{attempt.key}: {attempt.reservation_id} the first time, {found} now")
            attempt.reservation_id = found
    return Check("a key sent again has no second effect", problems, len(sent) - len(untold), untold)


def _some(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """At most `_MOST_REPLAYS`, from beginning to end."""
    return attempts[:: max(1, math.ceil(len(attempts) / _MOST_REPLAYS))]


def _reconciled(database_url: str) -> Check:
    # Who looks at the books needs no signing keys, which production asks of every command.
    environment = {**os.environ, "APP_DATABASE_URL": database_url, "APP_ENVIRONMENT": "development"}
    command = [sys.executable, "-m", "app.cli", "stock", "reconcile"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return Check("`stockroom stock reconcile` agrees", (done.stdout + done.stderr).splitlines() if done.returncode else [], 1)
