"""Products through the API: what is sent comes back, a change names its version, and lists show everything exactly once."""

import asyncio
from datetime import datetime
from itertools import product as product_of
from typing import Any

import httpx
import pytest

from app.api.pagination import encode_cursor
from app.schemas.products import MAX_PRODUCT_BYTES
from app.services.documents import MAX_PAGE
from app.services.products import reading
from tests.shop import API, a_category, a_product, a_variant, adjust, pages, patch, reserve, stock_of

NOBODY = "0190c0de-0000-7000-8000-000000000001"
LINEN_SHIRT = {
    "name": "Linen shirt",
    "slug": "linen-shirt",
    "description": "Cool & light, „made“ in Portugal\n— 100 % linen",
    "status": "active",
    "tags": ["summer", "new"],
    "attributes": {"material": "linen", "care": {"wash": 30, "iron": None}, "weights": [1, 2.5]},
    "media": [{"url": "https://cdn.example/shirt.jpg", "alt": "Front"}],
}


async def read(client: httpx.AsyncClient, product: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"{API}/products/{product['id']}")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def changed(client: httpx.AsyncClient, product: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The product after a change that must succeed."""
    answer = await patch(client, product, **changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def skus(product: dict[str, Any]) -> list[str]:
    return [variant["sku"] for variant in product["variants"]]


def pointers(answer: httpx.Response) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation-error")
    return [(error["in"], error["pointer"]) for error in answer.json()["errors"]]


class TestMaking:
    async def test_a_product_comes_back_as_it_was_sent_with_ids_and_a_version(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        variant = {"sku": "LS-BLU-M", "gtin": "4006381333931", "options": {"Size": "M", "Colour": "Blue"}, "attributes": {"lead_days": 3}}
        prices = [{"amount": 5900, "currency": "CHF"}, {"amount": 4900, "currency": "EUR"}]
        body = LINEN_SHIRT | {"category_ids": [category["id"]], "variants": [variant | {"prices": prices[::-1]}]}
        answer = await admin.post(f"{API}/products", json=body)
        assert answer.status_code == 201
        product = answer.json()
        assert answer.headers["Location"] == f"{API}/products/{product['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert product["version"] == 1
        assert product["created_at"] == product["updated_at"]
        assert {name: product[name] for name in body if name != "variants"} == {name: body[name] for name in body if name != "variants"}
        (made,) = product["variants"]
        assert {name: made[name] for name in variant} == variant
        assert made["prices"] == prices
        again = await admin.get(answer.headers["Location"])
        assert (again.json(), again.headers["ETag"]) == (product, '"1"')

    async def test_a_name_and_a_sku_are_enough(self, admin: httpx.AsyncClient) -> None:
        answer = await admin.post(f"{API}/products", json={"name": "Men's Café Crème", "variants": [{"sku": "X-1"}]})
        product = answer.json()
        assert (answer.status_code, product["slug"], product["status"]) == (201, "mens-cafe-creme", "draft")
        (variant,) = product["variants"]
        assert (variant["gtin"], variant["options"], variant["attributes"], variant["prices"]) == (None, {}, {}, [])

    async def test_the_order_of_variants_and_of_their_options_is_kept(self, admin: httpx.AsyncClient) -> None:
        options = {"Size": "M", "Colour": "Blue", "Fit": "Slim"}
        variants = [a_variant(sku, options=options | {"Size": sku}) for sku in ("C", "A", "B")]
        product = await a_product(admin, variants=variants)
        assert skus(product) == ["C", "A", "B"]
        assert [list(variant["options"]) for variant in product["variants"]] == [list(options)] * 3

    async def test_a_taken_slug_is_named_and_nothing_is_left_behind(self, admin: httpx.AsyncClient) -> None:
        await a_product(admin, "A", slug="linen-shirt")
        answer = await admin.post(f"{API}/products", json={"name": "Linen shirt", "variants": [a_variant("B")]})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
        assert "`linen-shirt`" in answer.json()["detail"]
        assert (await admin.get(f"{API}/variants/B")).status_code == 404

    async def test_all_taken_skus_are_named_and_nothing_is_left_behind(self, admin: httpx.AsyncClient) -> None:
        await a_product(admin, "A", "B")
        answer = await admin.post(f"{API}/products", json={"name": "New", "variants": [a_variant(sku) for sku in ("B", "C", "A")]})
        assert (answer.status_code, answer.json()["skus"]) == (409, ["A", "B"])
        assert (await admin.get(f"{API}/variants/C")).status_code == 404
        assert (await admin.post(f"{API}/products", json={"name": "New", "variants": [a_variant("C")]})).status_code == 201

    async def test_all_unknown_categories_are_named(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        ids = [NOBODY, category["id"], NOBODY[:-1] + "2"]
        answer = await admin.post(f"{API}/products", json={"name": "New", "category_ids": ids, "variants": [a_variant("A")]})
        assert answer.status_code == 404
        assert all((unknown in answer.json()["detail"]) == (unknown != category["id"]) for unknown in ids)

    async def test_errors_point_at_what_is_wrong(self, admin: httpx.AsyncClient) -> None:
        variants = [a_variant("A"), a_variant("B", gtin="4006381333930"), a_variant("C", prices=[{"amount": "1", "currency": "EUR"}])]
        variants.append({"sku": "D", "options": dict.fromkeys(("a", "b", "c", "d"), "x")})
        body = {"name": "", "colour": "blue", "attributes": {"a/b~c": "\x00"}, "variants": variants}
        assert sorted(pointers(await admin.post(f"{API}/products", json=body))) == [
            ("body", "#/attributes"),
            ("body", "#/colour"),
            ("body", "#/name"),
            ("body", "#/variants/1/gtin"),
            ("body", "#/variants/2/prices/0/amount"),
            ("body", "#/variants/3/options"),
        ]

    async def test_half_a_surrogate_pair_is_refused_as_a_value_not_as_a_fault(self, admin: httpx.AsyncClient) -> None:
        for place in ('"attributes": {"a": ["\\ud800"]}', '"attributes": {"\\ud800": 1}', '"tags": ["\\ud800"]', '"slug": "\\ud800"'):
            body = f'{{"name": "x", {place}, "variants": [{{"sku": "A"}}]}}'
            answer = await admin.post(f"{API}/products", content=body, headers={"Content-Type": "application/json"})
            assert pointers(answer), place

    async def test_a_viewer_may_look_but_not_write(self, admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
        product = await a_product(admin, "A")
        assert await read(viewer, product) == product
        assert (await viewer.post(f"{API}/products", json={"name": "x", "variants": [a_variant("B")]})).status_code == 403
        assert (await patch(viewer, product, name="x")).status_code == 403
        assert (await viewer.delete(f"{API}/products/{product['id']}")).status_code == 403

    async def test_what_does_not_exist_is_not_found(self, admin: httpx.AsyncClient) -> None:
        for method in ("GET", "DELETE"):
            assert (await admin.request(method, f"{API}/products/{NOBODY}")).status_code == 404
        assert (await patch(admin, {"id": NOBODY, "version": 1}, name="x")).status_code == 404
        assert pointers(await admin.get(f"{API}/products/linen-shirt")) == [("path", "#/product_id")]


class TestChanging:
    async def test_what_is_left_out_stays(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, "A", "B", **LINEN_SHIRT)
        answer = await patch(admin, product, name="Linen shirt II")
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
        after = answer.json()
        assert after["updated_at"] > product["updated_at"]
        assert after == product | {"name": "Linen shirt II", "version": 2, "updated_at": after["updated_at"]}
        assert await read(admin, product) == after

    async def test_attributes_merge_and_null_removes(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, attributes={"material": "linen", "care": {"wash": 30, "iron": 1}, "weights": [1, 2]})
        product = await changed(admin, product, attributes={"material": None, "care": {"iron": None, "bleach": False}, "weights": [3]})
        assert product["attributes"] == {"care": {"wash": 30, "bleach": False}, "weights": [3]}

    async def test_patches_together_cannot_grow_attributes_without_end(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, attributes={f"a{number}": 1 for number in range(100)})
        assert pointers(await patch(admin, product, attributes={"one more": 1})) == [("body", "#/attributes")]
        assert (await patch(admin, product, attributes={"a0": None, "one more": 1})).status_code == 200

    async def test_patches_together_cannot_lengthen_attributes_without_end(self, admin: httpx.AsyncClient) -> None:
        product = await changed(admin, await a_product(admin, attributes={"a": "x" * 8_000}), attributes={"b": "x" * 8_000})
        assert pointers(await patch(admin, product, attributes={"c": "x" * 8_000})) == [("body", "#/attributes")]
        assert await read(admin, product) == product
        assert (await patch(admin, product, attributes={"a": None, "c": "x" * 8_000})).status_code == 200

    async def test_a_page_of_products_is_at_most_25_mib_whatever_patches_make_of_them(self, admin: httpx.AsyncClient) -> None:
        skus = [f"A-{number}" for number in range(20)]
        product = await a_product(admin, *skus, description="\x01" * 3_000)
        refused: list[httpx.Response] = []
        for filled in skus:
            # A number of five characters is printed with 309 digits.
            variants = [{"sku": sku, **({"attributes": {"n": [1e308] * 50}} if sku == filled else {})} for sku in skus]
            answer = await patch(admin, product, variants=variants)
            if answer.status_code == 200:
                product = answer.json()
            else:
                refused.append(answer)
        assert product["version"] > 10
        assert [pointers(answer) for answer in refused] == [[("body", "#")]] * (len(skus) + 1 - product["version"])
        assert refused
        page = await admin.get(f"{API}/products", params={"limit": 1})
        assert MAX_PRODUCT_BYTES - 20_000 < len(page.content) < MAX_PRODUCT_BYTES + 100
        assert MAX_PAGE * MAX_PRODUCT_BYTES == 25 * 2**20

    async def test_lists_are_replaced_whole(self, admin: httpx.AsyncClient) -> None:
        shirts, sale = await a_category(admin, "Shirts"), await a_category(admin, "Sale")
        product = await a_product(admin, **LINEN_SHIRT, category_ids=[shirts["id"]])
        product = await changed(admin, product, tags=["sale"], media=[], category_ids=[sale["id"]])
        assert (product["tags"], product["media"], product["category_ids"]) == (["sale"], [], [sale["id"]])
        product = await changed(admin, product, tags=[], category_ids=[])
        assert (product["tags"], product["category_ids"]) == ([], [])

    async def test_a_taken_slug_is_refused_and_ones_own_is_not(self, admin: httpx.AsyncClient) -> None:
        await a_product(admin, slug="taken")
        product = await a_product(admin, slug="mine")
        answer = await patch(admin, product, slug="taken", name="x")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
        assert await read(admin, product) == product
        assert (await changed(admin, product, slug="mine"))["slug"] == "mine"

    @pytest.mark.parametrize("body", [{}, {"name": None}, {"version": 2}, {"id": NOBODY}, {"slug": "No Slug"}])
    async def test_nothing_null_unknown_or_malformed_is_refused(self, admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
        product = await a_product(admin)
        assert pointers(await patch(admin, product, **body)) == [("body", "#/" + next(iter(body)) if body else "#")]
        assert await read(admin, product) == product


class TestVersions:
    async def test_a_change_must_say_which_version_it_was_made_for(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin)
        answer = await admin.patch(f"{API}/products/{product['id']}", json={"name": "x"})
        assert (answer.status_code, answer.json()["type"]) == (428, "/problems/precondition-required")

    @pytest.mark.parametrize("if_match", ['"2"', "*", '"1", "2"', '"9","2"', 'W/"1", "2"'])
    async def test_the_current_version_or_a_star_will_do(self, admin: httpx.AsyncClient, if_match: str) -> None:
        product = await changed(admin, await a_product(admin), name="second")
        answer = await admin.patch(f"{API}/products/{product['id']}", json={"name": "third"}, headers={"If-Match": if_match})
        assert (answer.status_code, answer.json()["version"]) == (200, 3)

    async def test_a_stale_or_weak_tag_is_told_the_current_version(self, admin: httpx.AsyncClient) -> None:
        product = await changed(admin, await a_product(admin), name="second")
        for if_match in ('"1"', '"3"', 'W/"2"', '"02"', '"abc"', '""', '"1", "3"'):
            answer = await admin.patch(f"{API}/products/{product['id']}", json={"name": "third"}, headers={"If-Match": if_match})
            assert (answer.status_code, answer.json()["type"]) == (412, "/problems/precondition-failed")
            assert '"2"' in answer.json()["detail"]
        assert await read(admin, product) == product

    async def test_a_malformed_tag_is_no_tag(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin)
        for if_match in ("1", '"1', '"1" "2"', "", "W/1", '"1", *', '"' + "1" * 300 + '"'):
            answer = await admin.patch(f"{API}/products/{product['id']}", json={"name": "x"}, headers={"If-Match": if_match})
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), if_match
        assert await read(admin, product) == product

    async def test_of_two_changes_at_once_one_wins_and_the_other_is_told(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin)
        answers = await asyncio.gather(*(patch(admin, product, name=f"Name {number}") for number in range(2)))
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
        assert await read(admin, product) == winner


class TestReplacingVariants:
    async def test_known_ones_change_only_what_is_given_new_ones_come_and_missing_ones_go(self, admin: httpx.AsyncClient) -> None:
        first = a_variant("A", gtin="4006381333931", attributes={"lead_days": 3})
        product = await a_product(admin, variants=[first, a_variant("B"), a_variant("C")])
        before = {variant["sku"]: variant for variant in product["variants"]}
        product = await changed(admin, product, variants=[a_variant("D"), {"sku": "C", "attributes": {"x": 1}}, {"sku": "A", "prices": []}])
        assert skus(product) == ["D", "C", "A"]
        after = {variant["sku"]: variant for variant in product["variants"]}
        assert after["A"] == before["A"] | {"prices": []}
        assert after["C"] == before["C"] | {"attributes": {"x": 1}}
        gone = (await admin.get(f"{API}/variants/B")).json()
        assert (gone["id"], gone["archived"]) == (before["B"]["id"], True)

    async def test_null_takes_a_gtin_away_and_prices_are_replaced_by_currency(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, variants=[a_variant("A", gtin="4006381333931")])
        prices = [{"amount": 0, "currency": "USD"}, {"amount": 5100, "currency": "EUR"}]
        product = await changed(admin, product, variants=[{"sku": "A", "gtin": None, "prices": prices}])
        assert product["variants"][0]["gtin"] is None
        assert product["variants"][0]["prices"] == prices[::-1]

    async def test_an_archived_sku_that_is_named_again_comes_back_as_it_was(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, "A", "B")
        archived = product["variants"][1]
        product = await changed(admin, product, variants=[{"sku": "A"}])
        assert skus(product) == ["A"]
        product = await changed(admin, product, variants=[{"sku": "A"}, {"sku": "B"}])
        assert product["variants"][1] == archived
        assert (await admin.get(f"{API}/variants/B")).json()["archived"] is False

    async def test_variants_with_stock_or_live_reservations_cannot_be_left_out(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin, "A", "B", "C", "D")
        await stock_of(admin, "B", 5)
        await stock_of(admin, "C", 1)
        held = (await reserve(admin, {"sku": "C", "quantity": 1})).json()
        await adjust(admin, "C", "BER-1", -1, reason="counted")
        answer = await patch(admin, product, name="x", variants=[{"sku": "A"}])
        assert (answer.status_code, answer.json()["skus"]) == (409, ["B", "C"])
        assert await read(admin, product) == product
        await adjust(admin, "B", "BER-1", -5, reason="sold")
        await admin.post(f"{API}/reservations/{held['id']}/release")
        assert skus(await changed(admin, product, variants=[{"sku": "A"}])) == ["A"]

    async def test_another_products_sku_is_refused_even_an_archived_one(self, admin: httpx.AsyncClient) -> None:
        other = await a_product(admin, "X", "Y")
        await changed(admin, other, variants=[{"sku": "X"}])
        product = await a_product(admin, "A")
        answer = await patch(admin, product, variants=[a_variant("Y"), a_variant("X"), {"sku": "A"}])
        assert (answer.status_code, answer.json()["skus"]) == (409, ["X", "Y"])
        assert await read(admin, product) == product


class TestArchiving:
    async def test_an_archived_product_leaves_the_lists_but_not_its_address(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        product = await a_product(admin, "A", tags=["summer"], category_ids=[category["id"]])
        answer = await admin.delete(f"{API}/products/{product['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
        after = await read(admin, product)
        assert (after["status"], after["version"]) == ("archived", 2)
        for filters in ({}, {"tag": "summer"}, {"category": category["id"]}, {"updated_since": "2000-01-01T00:00:00Z"}):
            assert await pages(admin, "/products", **filters) == [[]]
            assert await pages(admin, "/products", status="archived", **filters) == [[after]]

    async def test_a_stale_archive_is_refused_and_a_repeated_one_changes_nothing(self, admin: httpx.AsyncClient) -> None:
        product = await changed(admin, await a_product(admin), name="second")
        address = f"{API}/products/{product['id']}"
        assert (await admin.delete(address, headers={"If-Match": '"1"'})).status_code == 412
        assert (await admin.delete(address, headers={"If-Match": '"2"'})).status_code == 204
        assert (await admin.delete(address)).status_code == 204
        assert (await read(admin, product))["version"] == 3

    async def test_its_status_brings_it_back_into_every_list(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        product = await a_product(admin, "A", tags=["summer"], category_ids=[category["id"]])
        await admin.delete(f"{API}/products/{product['id']}")
        product = await changed(admin, await read(admin, product), status="active")
        for filters in ({}, {"tag": "summer"}, {"category": "shirts"}, {"tag": "summer", "category": "shirts", "status": "active"}):
            assert await pages(admin, "/products", **filters) == [[product]]


@pytest.fixture
async def shelf(admin: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Twelve products: every third a draft, every fourth archived, every second tagged "even", those from the seventh on in a subcategory."""
    root = await a_category(admin, "Clothes")
    child = await a_category(admin, "Shirts", root)
    made = []
    for number in range(12):
        status = "archived" if number % 4 == 3 else "draft" if number % 3 == 0 else "active"
        fields = {"status": status, "tags": ["even"] if number % 2 == 0 else [], "category_ids": [(child if number > 6 else root)["id"]]}
        made.append(await a_product(admin, f"SKU-{number:02}", **fields))
    return made


class TestListing:
    async def test_pages_of_any_size_show_everything_exactly_once_in_order(
        self, admin: httpx.AsyncClient, shelf: list[dict[str, Any]]
    ) -> None:
        expected = [product for product in shelf if product["status"] != "archived"]
        for limit in range(1, 12):
            found = await pages(admin, "/products", limit=limit)
            assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
            assert 0 < len(found[-1]) <= limit
            assert [product for page in found for product in page] == expected

    @pytest.mark.parametrize("status", [None, "active", "draft", "archived"])
    async def test_filters_combine(self, admin: httpx.AsyncClient, shelf: list[dict[str, Any]], status: str | None) -> None:
        since = shelf[2]["updated_at"]
        subtrees = {None: range(12), "clothes": range(12), "shirts": range(7, 12), "nothing-here": range(0)}
        for (category, inside), tag, limit in product_of(subtrees.items(), (None, "even", "odd"), (2, 100)):
            expected = [
                product
                for number, product in enumerate(shelf)
                if number in inside
                and (product["status"] == status or (status is None and product["status"] != "archived"))
                and (tag is None or tag in product["tags"])
            ]
            filters = {name: value for name, value in {"status": status, "tag": tag, "category": category}.items() if value is not None}
            found = await pages(admin, "/products", limit=limit, **filters)
            assert [product for page in found for product in page] == expected
            found = await pages(admin, "/products", limit=limit, updated_since=since, **filters)
            assert [product for page in found for product in page] == [
                product for product in expected if datetime.fromisoformat(product["updated_at"]) >= datetime.fromisoformat(since)
            ]

    async def test_updated_since_shows_what_changed_at_or_after_that_time_by_time(self, admin: httpx.AsyncClient) -> None:
        first, second, third = [await a_product(admin) for _ in range(3)]
        first = await changed(admin, first, name="changed last")
        assert await pages(admin, "/products", updated_since=third["updated_at"]) == [[third, first]]
        assert await pages(admin, "/products", updated_since=second["updated_at"], limit=1) == [[second], [third], [first]]
        answer = await admin.get(f"{API}/products", params={"updated_since": "2026-01-01T00:00:00"})
        assert pointers(answer) == [("query", "#/updated_since")]

    async def test_every_time_that_can_be_written_is_a_time(self, admin: httpx.AsyncClient) -> None:
        product = await a_product(admin)
        for since in ("0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"):
            assert await pages(admin, "/products", updated_since=since) == [[product]]
        assert await pages(admin, "/products", updated_since="9999-12-31T23:59:59-14:00") == [[]]

    async def test_products_added_meanwhile_come_at_the_end_and_disturb_nothing(self, admin: httpx.AsyncClient) -> None:
        expected = [(await a_product(admin))["id"] for _ in range(5)]
        found: list[str] = []
        cursor = None
        while len(found) < 12:
            answer = (await admin.get(f"{API}/products", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
            found += [product["id"] for product in answer["items"]]
            if (cursor := answer["next_cursor"]) is None:
                break
            expected.append((await a_product(admin))["id"])
        assert found == expected[: len(found)]
        assert len(found) > 5

    async def test_the_link_header_leads_to_the_next_page_as_it_is(self, admin: httpx.AsyncClient, shelf: list[dict[str, Any]]) -> None:
        answer = await admin.get(f"{API}/products", params={"tag": "even", "limit": 1, "category": "clothes"})
        found = answer.json()["items"]
        while "Link" in answer.headers:
            assert answer.json()["next_cursor"] is not None
            answer = await admin.get(answer.links["next"]["url"])
            found += answer.json()["items"]
        assert answer.json()["next_cursor"] is None
        assert found == [product for product in shelf if "even" in product["tags"] and product["status"] != "archived"]

    async def test_a_cursor_is_good_for_the_list_and_the_filters_it_was_given_for(self, admin: httpx.AsyncClient) -> None:
        for name in ("A", "B"):
            await a_product(admin, tags=["sale"])
            await a_category(admin, name)
        cursor = (await admin.get(f"{API}/products", params={"limit": 1})).json()["next_cursor"]
        assert (await admin.get(f"{API}/products", params={"limit": 2, "cursor": cursor})).status_code == 200
        for path, filters in (
            ("/products", {"tag": "sale"}),
            ("/products", {"updated_since": "2026-01-01T00:00:00Z"}),
            ("/categories", {}),
        ):
            answer = await admin.get(f"{API}{path}", params={"cursor": cursor} | filters)
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")

    @pytest.mark.parametrize("path", ["/products", "/categories", "/locations", "/stock", "/stock/movements"])
    async def test_a_cursor_that_was_never_given_is_refused(self, admin: httpx.AsyncClient, path: str) -> None:
        for cursor in ("x", "!!!", "bnVsbA", "e30", "WyJhIl0", encode_cursor(()), encode_cursor((NOBODY,)), encode_cursor(("a", "b"))):
            answer = await admin.get(f"{API}{path}", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")

    async def test_short_pages_of_rare_combinations_still_come_to_an_end(
        self, admin: httpx.AsyncClient, shelf: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "_CANDIDATES_AN_ITEM", 1)
        expected = [product for product in shelf[7:] if "even" in product["tags"] and product["status"] != "archived"]
        for filters in (
            {"category": "shirts", "tag": "even"},
            {"category": "shirts", "tag": "even", "updated_since": "2000-01-01T00:00:00Z"},
        ):
            found = await pages(admin, "/products", limit=2, **filters)
            assert any(len(page) < 2 for page in found[:-1])
            assert [product for page in found for product in page] == expected

    async def test_a_filter_that_makes_no_sense_is_pointed_at(self, admin: httpx.AsyncClient) -> None:
        senseless: dict[str, list[str | int]] = {
            "limit": [0, 101, "x"],
            "status": ["sold"],
            "category": ["No Slug"],
            "tag": ["a,b", ""],
            "cursor": [""],
        }
        for name, values in senseless.items():
            for value in values:
                assert pointers(await admin.get(f"{API}/products", params={name: value})) == [("query", f"#/{name}")]


async def test_a_slug_that_could_pass_for_an_id_is_a_slug(admin: httpx.AsyncClient) -> None:
    slug = "01890a5dac96774bbcceb302099a8057"
    answer = await admin.post(f"{API}/categories", json={"name": "Shirts", "slug": slug})
    product = await a_product(admin, category_ids=[answer.json()["id"]])
    assert await pages(admin, "/products", category=slug) == [[product]]
    # Python takes this for a UUID, PostgreSQL does not.
    assert await pages(admin, "/products", category="0-1890a5dac96774bbcceb302099a8057") == [[]]
