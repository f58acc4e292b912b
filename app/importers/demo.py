"""A made-up catalogue to look around in: the same for the same seed, on every version of Python."""

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

from app.core.gtin import check_digit
from app.core.slugs import slugify
from app.importers.rows import CategoryRow, CategoryStep, LocationRow, ProductRow, Row

T = TypeVar("T")


def demo_catalogue(seed: int = 1, products: int = 500) -> Iterator[Row]:
    """Make up a catalogue with stock.

    The first product is always the `linen-shirt` that the README shows; its `LS-BLU-M` lies in Berlin and Hamburg. Every five products
    have fifteen variants, so 500 have 1,500.

    Args:
        seed: what everything else is drawn from.
        products: how many to make.

    Returns:
        The categories, then five locations, then the products with their stock. `line` counts the rows from 1.
    """
    rows = [CategoryRow(line, _steps(path)) for line, path in enumerate(_CATEGORIES, start=1)]
    yield from rows
    yield from (LocationRow(line, *location) for line, location in enumerate(_LOCATIONS, start=len(rows) + 1))
    draw = Random(seed)  # noqa: S311 - nothing here is secret
    made: Counter[str] = Counter()
    for index in range(products):
        article = _LINEN_SHIRT if index == 0 else _article(draw, made)
        yield _product(draw, index, article, line=len(rows) + len(_LOCATIONS) + index + 1)


class _Kind(NamedTuple):
    code: str
    noun: str
    category: str
    materials: tuple[str, ...]
    price_eur: tuple[int, int]
    purpose: str
    sizes: tuple[str, ...] = ()


class _Article(NamedTuple):
    """What a product is, before its variants."""

    code: str
    name: str
    material: str
    kind: _Kind
    price_minor: int


def _steps(path: str) -> tuple[CategoryStep, ...]:
    return tuple(CategoryStep(slugify(name), name) for name in path.split(" > "))


def _article(draw: Random, made: Counter[str]) -> _Article:
    number = draw.randrange(len(_KINDS))
    kind = _KINDS[number]
    combinations = len(kind.materials) * len(_STYLES)
    edition, turn = divmod(made[kind.code], combinations)
    # Steps of a size that shares no divisor with the number of combinations meet each of them once before any comes again.
    material, style = divmod((turn * _STRIDE + number * 7) % combinations, len(_STYLES))
    made[kind.code] += 1
    name = f"{_STYLES[style]} {kind.materials[material]} {kind.noun}"
    low, high = kind.price_eur
    return _Article(
        code=f"{kind.code}{made[kind.code]:03d}",
        name=f"{name} {edition + 1}" if edition else name,
        material=kind.materials[material],
        kind=kind,
        price_minor=(low + draw.randrange(high - low + 1)) * 100 - _pick(draw, (0, 10)),
    )


def _product(draw: Random, index: int, article: _Article, line: int) -> ProductRow:
    first = index == 0
    kind, slug = article.kind, slugify(article.name)
    draft = not first and draw.random() < 0.04
    prices = [{"amount": article.price_minor, "currency": "EUR"}]
    if draw.random() < 0.4:
        prices.append({"amount": article.price_minor * 11 // 1000 * 100, "currency": "USD"})
    variants: list[dict[str, Any]] = []
    stock: dict[tuple[str, str | None], int] = {}
    for number, (suffix, options) in enumerate(_options(draw, index, kind)):
        sku = article.code + suffix
        gtin = _README_GTIN if first and number == 0 else _in_store_gtin(index * 5 + number)
        variants.append({"sku": sku, "gtin": gtin, "options": options, "attributes": {}, "prices": prices})
        if first and number == 0:
            stock |= {(sku, "BER-1"): 24, (sku, "HAM-1"): 8}
        elif not draft:
            stock |= {(sku, code): on_hand for code, on_hand in _stock(draw).items()}
    body = {
        "name": article.name,
        "slug": slug,
        "description": f"Made of {article.material} {_pick(draw, _DETAILS)}. {kind.purpose}",
        "status": "draft" if draft else "active",
        "tags": [article.material, _pick(draw, _LABELS), *([_pick(draw, _SEASONS)] if kind.sizes else [])],
        "attributes": {"material": article.material, "brand": _pick(draw, _BRANDS)},
        "media": [
            {"url": f"https://images.example.com/{slug}/{view}.jpg", "alt": f"{article.name}, {view}"}
            for view in _VIEWS[: 1 + draw.randrange(3)]
        ],
        "variants": variants,
    }
    return ProductRow(line, body, category_slugs=(_steps(kind.category)[-1].slug,), stock=stock)


def _options(draw: Random, index: int, kind: _Kind) -> list[tuple[str, dict[str, str]]]:
    count = _VARIANT_COUNTS[index % len(_VARIANT_COUNTS)]
    if count == 1:
        return [("", {})]
    if not kind.sizes:
        return [(f"-{code}", {"Colour": colour}) for code, colour in _colours(draw, count)]
    if count == 4:
        colours = _COLOURS[:2] if index == 0 else _colours(draw, 2)
        return [(f"-{code}-{size}", {"Colour": colour, "Size": size}) for code, colour in colours for size in kind.sizes[2:4]]
    start = {2: 2, 3: 1, 5: 0}[count]
    return [(f"-{size}", {"Size": size}) for size in kind.sizes[start : start + count]]


def _colours(draw: Random, count: int) -> list[tuple[str, str]]:
    remaining = list(_COLOURS)
    return [remaining.pop(draw.randrange(len(remaining))) for _ in range(count)]


def _stock(draw: Random) -> dict[str, int]:
    codes = [code for code, _, _ in _LOCATIONS]
    home = _pick(draw, codes)
    fate = draw.random()
    if fate < 0.08:
        return {home: 0}
    if fate < 0.2:
        return {home: 1 + draw.randrange(4)}
    return {code: 5 + draw.randrange(120) for code in codes if code == home or draw.random() < 0.4}


def _in_store_gtin(number: int) -> str:
    # Prefix 20 is for numbers used inside one company (GS1 General Specifications, section 1.4), so none of these is anybody's.
    digits = f"20{number:010d}"
    return digits + check_digit(digits)


def _pick(draw: Random, choices: Sequence[T]) -> T:
    return choices[draw.randrange(len(choices))]


_README_GTIN: Final = "4006381333931"

# Their mean is three.
_VARIANT_COUNTS: Final = (4, 1, 2, 3, 5)

_SIZES: Final = ("XS", "S", "M", "L", "XL")

_COLOURS: Final = (
    ("BLU", "Blue"),
    ("WHT", "White"),
    ("BLK", "Black"),
    ("NVY", "Navy"),
    ("OLV", "Olive"),
    ("RST", "Rust"),
    ("SND", "Sand"),
    ("GRY", "Grey"),
    ("MUS", "Mustard"),
    ("ROS", "Rose"),
)

_LOCATIONS: Final = (
    ("BER-1", "Berlin warehouse", {"line1": "Lagerweg 4", "city": "Berlin", "postal_code": "12057", "country": "DE"}),
    ("HAM-1", "Hamburg warehouse", {"line1": "Am Kai 18", "city": "Hamburg", "postal_code": "20457", "country": "DE"}),
    ("MUC-1", "Munich shop", {"line1": "Marktgasse 2", "city": "Munich", "postal_code": "80331", "country": "DE"}),
    ("VIE-1", "Vienna warehouse", {"line1": "Speicherstrasse 9", "city": "Vienna", "postal_code": "1110", "country": "AT"}),
    ("PAR-1", "Paris shop", {"line1": "7 rue du Canal", "city": "Paris", "postal_code": "75010", "country": "FR"}),
)

_CATEGORIES: Final = (
    "Clothing",
    "Clothing > Shirts",
    "Clothing > Knitwear",
    "Clothing > Trousers",
    "Clothing > Outerwear",
    "Accessories",
    "Accessories > Bags",
    "Accessories > Hats and scarves",
    "Home",
    "Home > Kitchen",
    "Home > Kitchen > Cups",
    "Home > Kitchen > Bowls and trays",
    "Home > Living room",
    "Home > Living room > Cushions and blankets",
    "Home > Living room > Lamps",
    "Home > Bathroom",
    "Outdoor",
    "Outdoor > Flasks",
    "Stationery",
)

_WEAR: Final = "Cut for every day, true to size."
_TABLE: Final = "For a table that is laid three times a day."
_KINDS: Final = (
    _Kind("TS", "T-shirt", "Clothing > Shirts", ("cotton", "hemp", "bamboo"), (19, 39), _WEAR, _SIZES),
    _Kind("SH", "shirt", "Clothing > Shirts", ("oxford cotton", "flannel", "poplin"), (45, 89), _WEAR, _SIZES),
    _Kind("BL", "blouse", "Clothing > Shirts", ("silk", "viscose", "linen"), (55, 119), _WEAR, _SIZES),
    _Kind("SW", "sweater", "Clothing > Knitwear", ("merino", "lambswool", "cashmere"), (69, 159), _WEAR, _SIZES),
    _Kind("CD", "cardigan", "Clothing > Knitwear", ("merino", "alpaca", "cotton"), (79, 149), _WEAR, _SIZES),
    _Kind("CH", "chinos", "Clothing > Trousers", ("cotton", "linen", "corduroy"), (59, 109), _WEAR, _SIZES),
    _Kind("JN", "jeans", "Clothing > Trousers", ("raw denim", "stretch denim", "recycled denim"), (79, 139), _WEAR, _SIZES),
    _Kind("RJ", "rain jacket", "Clothing > Outerwear", ("recycled nylon", "waxed cotton"), (119, 219), _WEAR, _SIZES),
    _Kind("CT", "coat", "Clothing > Outerwear", ("wool", "boiled wool", "cashmere"), (189, 399), _WEAR, _SIZES),
    _Kind("BP", "backpack", "Accessories > Bags", ("canvas", "waxed canvas", "recycled nylon"), (69, 149), "Holds a laptop and lunch."),
    _Kind("TT", "tote bag", "Accessories > Bags", ("canvas", "jute", "leather"), (19, 129), "Carries the week's shopping."),
    _Kind("BN", "beanie", "Accessories > Hats and scarves", ("merino", "cashmere", "cotton"), (25, 59), "Warm without weight."),
    _Kind("SC", "scarf", "Accessories > Hats and scarves", ("wool", "silk", "linen"), (35, 99), "Long enough to go round twice."),
    _Kind("MG", "mug", "Home > Kitchen > Cups", ("stoneware", "porcelain", "enamel"), (12, 29), _TABLE),
    _Kind("BO", "bowl", "Home > Kitchen > Bowls and trays", ("stoneware", "enamel", "glass"), (18, 59), _TABLE),
    _Kind("TR", "tray", "Home > Kitchen > Bowls and trays", ("lacquered oak", "lacquered beech", "steel"), (29, 79), _TABLE),
    _Kind("CU", "cushion", "Home > Living room > Cushions and blankets", ("linen", "velvet", "wool"), (29, 69), "Sold with its filling."),
    _Kind("BK", "blanket", "Home > Living room > Cushions and blankets", ("wool", "cotton", "mohair"), (79, 189), "Large enough for two."),
    _Kind("LM", "table lamp", "Home > Living room > Lamps", ("steel", "paper", "glass"), (59, 199), "Takes any E27 bulb."),
    _Kind("TW", "towel", "Home > Bathroom", ("linen", "waffle cotton", "terry"), (15, 49), "Dries fast and softens with every wash."),
    _Kind("VF", "vacuum flask", "Outdoor > Flasks", ("steel", "enamelled steel"), (29, 59), "Keeps drinks hot for twelve hours."),
    _Kind("NB", "notebook", "Stationery", ("recycled paper", "stone paper", "cotton paper"), (9, 24), "Lies flat when open."),
)

_LINEN_SHIRT: Final = _Article(
    "LS", "Linen shirt", "linen", _Kind("LS", "shirt", "Clothing > Shirts", ("linen",), (49, 49), _WEAR, _SIZES), 4900
)

_STYLES: Final = (
    *("Everyday", "Classic", "Relaxed", "Weekend", "Coastal", "Nordic", "Alpine", "Harbour", "Studio", "Heritage", "Garden", "Meadow"),
    *("Summit", "Field", "Market", "Evening", "Morning", "Winter", "Summer", "Traveller", "Workshop", "Atelier", "Lakeside", "Orchard"),
)
_STRIDE: Final = 29

_DETAILS: Final = (
    "and finished by hand",
    "in small series",
    "by a family workshop",
    "to be used for decades",
    "without superfluous detail",
    "to be repaired rather than replaced",
)
_SEASONS: Final = ("spring", "summer", "autumn", "winter")
_LABELS: Final = ("new", "bestseller", "gift", "organic", "last chance")
_BRANDS: Final = ("Nordlicht", "Hafenkante", "Maison Bleue", "Weststadt", "Tannberg")
_VIEWS: Final = ("front", "side", "detail")
