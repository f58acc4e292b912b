"""After a run: whether the books still agree, and whether every reservation happened exactly as often as its client was told."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loadtests.api import Api, ApiError
from loadtests.shop import LOCATION, Attempt, Shop

_MOST_SKUS = 5
_MOST_REPLAYS = 100
_LOOKS = 5
_ENDS = {"committed": "committed", "released": "released"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what should hold.
        problems: where it does not; empty when it does.
        looked_at: how many things.
    """

    name: str
    problems: list[str]
    looked_at: int


def check(shop: Shop, database_url: str | None) -> list[Check]:
    """Look over the books, by the API and, with a database URL, by `stockroom stock reconcile`.

    Other traffic may go on: levels that change meanwhile are read again, and only what this run did is held against what it was told.
    """
    attempts: dict[str, list[Attempt]] = {}
    for attempt in shop.attempts:
        attempts.setdefault(attempt.sku, []).append(attempt)
    skus = [sku for sku, _ in Counter({sku: len(found) for sku, found in attempts.items()}).most_common(_MOST_SKUS)]
    movements = {sku: _settled(shop.api, sku) for sku in skus or shop.own_skus[:1]}
    checks = [
        Check("the ledger's sums are the levels", [text for sku, seen in movements.items() for text in _sums(sku, seen)], len(movements)),
        Check("no level is oversold", list(_oversold(shop)), len(shop.own_skus)),
        Check(
            "every reservation is in the ledger once",
            [text for sku in skus for text in _effects(attempts[sku], movements[sku])],
            sum(len(attempts[sku]) for sku in skus),
        ),
        _replays(shop),
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
    """Send keys once more: the answer must be the one there was."""
    problems = [f"{attempt.key}: answered with two reservations" for attempt in shop.attempts if attempt.differing]
    acknowledged = [attempt for attempt in shop.attempts if attempt.reservation_id is not None]
    for attempt in acknowledged[:: max(1, len(acknowledged) // _MOST_REPLAYS)]:
        try:
            found = shop.api.post("/reservations", attempt.body, key=attempt.key)["id"]
        except ApiError as error:
            problems.append(str(error))
        else:
            if found != attempt.reservation_id:
                problems.append(f"{attempt.key}: {attempt.reservation_id} the first time, {found} now")
    return Check("a key sent again has no second effect", problems, min(len(acknowledged), _MOST_REPLAYS))


def _reconciled(database_url: str) -> Check:
    # Who looks at the books needs no signing keys, which production asks of every command.
    environment = {**os.environ, "APP_DATABASE_URL": database_url, "APP_ENVIRONMENT": "development"}
    command = [sys.executable, "-m", "app.cli", "stock", "reconcile"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return Check("`stockroom stock reconcile` agrees", (done.stdout + done.stderr).splitlines() if done.returncode else [], 1)
