"""What clients do, one function a kind of operation."""

import json
from collections.abc import Callable
from itertools import accumulate
from random import Random
from urllib.parse import quote, urlencode
from uuid import uuid4

from loadtests.exchanges import API, Answer, Operation, Request, get, kind_of, post
from loadtests.shop import LOCATION, OWN_PRODUCTS, Attempt, Shop

MakeOperation = Callable[[Shop, Random], Operation]

_RETRIED = 0.02
"""How many reservations are sent again with their key although they were answered, as a client does that did not hear."""

_HOTNESS = 1.1
_HOT = tuple(accumulate(1 / rank**_HOTNESS for rank in range(1, OWN_PRODUCTS + 1)))
_OUT_OF_STOCK = frozenset({409})
_CHANGED_MEANWHILE = frozenset({412})


def read_product(shop: Shop, chance: Random) -> Operation:
    """One product by its id."""
    yield get(f"/products/{chance.choice(shop.product_ids)}", "GET /products/{id}")


def read_variant(shop: Shop, chance: Random) -> Operation:
    """One variant by its SKU, with prices and stock."""
    yield get(f"/variants/{quote(chance.choice(shop.skus))}", "GET /variants/{sku}")


def list_products(_: Shop, __: Random) -> Operation:
    """The first page of products."""
    yield get("/products?status=active", "GET /products")


def list_filtered(shop: Shop, chance: Random) -> Operation:
    """A page of products by category or tag, or of stock levels."""
    kind = chance.randrange(3)
    if kind == 0 and shop.categories:
        yield get(f"/products?{urlencode({'category': chance.choice(shop.categories)})}", "GET /products?category")
    elif kind == 1 and shop.tags:
        yield get(f"/products?{urlencode({'tag': chance.choice(shop.tags)})}", "GET /products?tag")
    else:
        skus = [("sku", sku) for sku in chance.choices(shop.skus, k=10)]
        yield get(f"/stock?{urlencode(skus)}", "GET /stock?sku")


def reserve_and_commit(shop: Shop, chance: Random) -> Operation:
    """Hold one unit, and sell it."""
    attempt = Attempt(_key(), chance.choice(shop.own_skus))
    shop.attempts.append(attempt)
    yield from _reserve(attempt, retry=chance.random() < _RETRIED)
    if attempt.reservation_id is not None:
        yield from _end(attempt, "commit")


def reserve_hot(shop: Shop, chance: Random) -> Operation:
    """Hold one unit of what all want, and sell it or give it back."""
    (sku,) = chance.choices(shop.own_skus, cum_weights=_HOT[: len(shop.own_skus)])
    attempt = Attempt(_key(), sku)
    shop.attempts.append(attempt)
    yield from _reserve(attempt, retry=chance.random() < _RETRIED)
    if attempt.reservation_id is not None:
        yield from _end(attempt, chance.choice(("commit", "release")))


def change_product(shop: Shop, chance: Random) -> Operation:
    """Read a product and change its description."""
    path = f"/products/{chance.choice(shop.own_ids)}"
    answer = yield get(path, "GET /products/{id}")
    if answer.is_success:
        headers = {"Content-Type": "application/json", "If-Match": f'"{answer.json()["version"]}"'}
        body = json.dumps({"description": f"Changed by a load test, edition {chance.randrange(10**6)}"}).encode()
        yield Request("PATCH /products/{id}", "PATCH", API + path, body, headers, _CHANGED_MEANWHILE)


def adjust_stock(shop: Shop, chance: Random) -> Operation:
    """A delivery of ten units."""
    line = {"sku": chance.choice(shop.own_skus), "location": LOCATION, "delta": 10}
    yield post("/stock/adjustments", {"lines": [line], "reason": "received", "reference": "load test"}, key=_key())


def log_in(shop: Shop, _: Random) -> Operation:
    """A login with the right password."""
    form = urlencode({"username": shop.api.username, "password": shop.api.password}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    yield Request("POST /auth/login", "POST", f"{API}/auth/login", form, headers)


def _reserve(attempt: Attempt, *, retry: bool) -> Operation:
    request = post("/reservations", attempt.body, key=attempt.key, fine=_OUT_OF_STOCK)
    _note(attempt, request, (yield request))
    if retry:
        _note(attempt, request, (yield request))


def _end(attempt: Attempt, how: str) -> Operation:
    attempt.ended = "unknown"
    answer = yield post(
        f"/reservations/{attempt.reservation_id}/{how}", {}, key=f"{attempt.key}-{how}", name=f"POST /reservations/{{id}}/{how}"
    )
    if answer.is_success:
        attempt.ended = "committed" if how == "commit" else "released"


def _note(attempt: Attempt, request: Request, answer: Answer) -> None:
    if answer.is_success:
        reservation_id = answer.json()["id"]
        if attempt.reservation_id not in (None, reservation_id):
            attempt.differing += 1
        attempt.reservation_id = reservation_id
    elif kind_of(request, answer) == "error":
        attempt.is_unheard = True


def _key() -> str:
    # Never from the seed: another run with the same one would only be told again what this one did.
    return f"loadtest-{uuid4().hex}"
