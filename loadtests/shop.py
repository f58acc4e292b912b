"""What a load test reads and writes: it reads whatever the catalogue holds, and writes only to products of its own."""

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal
from urllib.parse import quote

from loadtests.api import Api, ApiError

LOCATION = "LOADTEST"
TAG = "load-test"
OWN_PRODUCTS = 40
_READ_PAGES = 10
_PLENTY = 1_000_000
_CONFLICT, _CHANGED_MEANWHILE = 409, 412

Ended = Literal["no", "committed", "released", "unknown"]


@dataclass(slots=True)
class Attempt:
    """A reservation that was asked for, once or several times with the same key.

    Attributes:
        key: its Idempotency-Key.
        sku: of its one line, one unit of which is held.
        reservation_id: as it was answered; None as long as nobody said.
        ended: whether it was committed or released since; unknown when that was not answered.
        differing: answers to the same key that were not the same.
        is_unheard: whether an answer was lost or an error, so that nobody knows whether it is held.
    """

    key: str
    sku: str
    reservation_id: str | None = None
    ended: Ended = "no"
    differing: int = 0
    is_unheard: bool = False

    @property
    def body(self) -> dict[str, object]:
        """What is sent, each time the same."""
        return {"lines": [{"sku": self.sku, "quantity": 1, "location": LOCATION}], "expires_in_seconds": 3600, "reference": "load test"}


@dataclass(slots=True)
class Shop:
    """What operations choose from, and what they did.

    Attributes:
        api: how it was found.
        product_ids: to read.
        skus: to read.
        categories: slugs, for filters.
        tags: for filters.
        own_ids: products to write to.
        own_skus: variants to reserve, the hottest first.
        attempts: every reservation that was asked for.
    """

    api: Api
    product_ids: list[str] = field(default_factory=list)
    skus: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    own_ids: list[str] = field(default_factory=list)
    own_skus: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def halves(self) -> tuple["Shop", "Shop"]:
        """Two that write to half of the products each, so that none waits for a lock of the other's, and note what they did here."""
        first, second = (replace(self, own_ids=self.own_ids[half::2], own_skus=self.own_skus[half::2]) for half in (0, 1))
        return first, second


def open_shop(api: Api) -> Shop:
    """Look what there is to read, and make, or bring back, the products to write to, with plenty of stock.

    Raises:
        UnreachableError: the deployment does not answer.
        ApiError: the user may not do this.
    """
    shop = Shop(api)
    if LOCATION not in {location["code"] for page in api.pages("/locations") for location in page}:
        _unless_there(api, "/locations", {"code": LOCATION, "name": "Load test"})
    for number in range(1, OWN_PRODUCTS + 1):
        product = _own_product(api, f"LOADTEST-{number:03d}")
        shop.own_ids.append(product["id"])
        shop.own_skus.append(f"LOADTEST-{number:03d}")
    lines = [{"sku": sku, "location": LOCATION, "delta": _PLENTY} for sku in _short_of_stock(api, shop.own_skus)]
    if lines:
        api.post("/stock/adjustments", {"lines": lines, "reason": "received", "reference": "load test"})
    tags: set[str] = set()
    for page in islice(api.pages("/products", status="active"), _READ_PAGES):
        for product in page:
            shop.product_ids.append(product["id"])
            shop.skus += [variant["sku"] for variant in product["variants"]]
            tags.update(product["tags"])
    shop.tags = sorted(tags)[:50]
    shop.categories = [category["slug"] for category in next(api.pages("/categories"))]
    return shop


def close_shop(shop: Shop) -> None:
    """Archive the products that were made, so that they leave the lists; their ledger stays, as everybody's does."""
    try:
        for product_id in shop.own_ids:
            shop.api.delete(f"/products/{product_id}")
    finally:
        shop.api.close()


def _own_product(api: Api, sku: str) -> Any:
    found = api.find(f"/variants/{quote(sku)}")
    if found is None:
        variants = [{"sku": sku, "prices": [{"amount": 4900, "currency": "EUR"}]}]
        _unless_there(
            api, "/products", {"name": f"Load test {sku}", "slug": sku.lower(), "status": "active", "tags": [TAG], "variants": variants}
        )
        found = api.get(f"/variants/{quote(sku)}")
    product = api.get(f"/products/{found['product']['id']}")
    if product["status"] != "active":
        try:
            product = api.patch(f"/products/{product['id']}", {"status": "active"}, version=product["version"])
        except ApiError as error:
            # Another generator was quicker.
            if error.status != _CHANGED_MEANWHILE:
                raise
    return product


def _unless_there(api: Api, path: str, body: dict[str, object]) -> None:
    try:
        api.post(path, body)
    except ApiError as error:
        # Another generator was quicker.
        if error.status != _CONFLICT:
            raise


def _short_of_stock(api: Api, skus: list[str]) -> list[str]:
    levels = {item["sku"]: item["available"] for page in api.pages("/stock", sku=skus, location=LOCATION) for item in page}
    return [sku for sku in skus if levels.get(sku, 0) < _PLENTY // 10]
