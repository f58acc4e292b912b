"""The category tree through the API, and the lists of products that follow it."""

from itertools import pairwise
from typing import Any

import httpx
import pytest

from app.core.db import ReadSession
from tests.shop import API, a_category, a_product, misfiled, pages, patch

NOBODY = "0190c0de-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
async def every_product_is_filed_under_its_categories_and_their_ancestors(reading: ReadSession):
    yield
    assert await misfiled(reading) == []


async def change(client: httpx.AsyncClient, category: dict[str, Any], **changes: Any) -> httpx.Response:
    return await client.patch(f"{API}/categories/{category['id']}", json=changes)


async def found(client: httpx.AsyncClient, category: str, **filters: Any) -> list[str]:
    """Names of the products in a category's subtree."""
    return [product["name"] for page in await pages(client, "/products", category=category, **filters) for product in page]


class TestMaking:
    async def test_a_category_knows_the_path_from_its_root(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Clothes & Shoes")
        child = await a_category(admin, "Shirts", root)
        answer = await admin.post(f"{API}/categories", json={"name": "Linen", "slug": "linen-shirts", "parent_id": child["id"]})
        leaf = answer.json()
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{API}/categories/{leaf['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert (leaf["slug"], leaf["parent_id"], leaf["path"]) == ("linen-shirts", child["id"], ["Clothes & Shoes", "Shirts", "Linen"])
        assert (root["slug"], root["parent_id"], root["path"]) == ("clothes-shoes", None, ["Clothes & Shoes"])
        again = await admin.get(answer.headers["Location"])
        assert (again.json(), again.headers["ETag"]) == (leaf, '"1"')

    async def test_a_taken_slug_is_a_conflict_and_an_unknown_parent_is_not_found(self, admin: httpx.AsyncClient) -> None:
        await a_category(admin, "Shirts")
        assert (await admin.post(f"{API}/categories", json={"name": "Shirts"})).status_code == 409
        assert (await admin.post(f"{API}/categories", json={"name": "T-Shirts", "parent_id": NOBODY})).status_code == 404

    async def test_the_tree_has_twenty_levels_at_most(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Level 1")
        for number in range(2, 21):
            category = await a_category(admin, f"Level {number}", category)
        assert len(category["path"]) == 20
        answer = await admin.post(f"{API}/categories", json={"name": "Level 21", "parent_id": category["id"]})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")

    async def test_a_viewer_may_look_but_not_write(self, admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        assert (await viewer.get(f"{API}/categories/{category['id']}")).json() == category
        assert (await viewer.post(f"{API}/categories", json={"name": "x"})).status_code == 403
        assert (await change(viewer, category, name="x")).status_code == 403
        assert (await viewer.delete(f"{API}/categories/{category['id']}")).status_code == 403


class TestListing:
    async def test_pages_of_any_size_show_every_category_exactly_once_in_order(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Root")
        made = [root] + [await a_category(admin, f"Child {number}", root) for number in range(4)] + [await a_category(admin, "Other")]
        for limit in range(1, 8):
            assert [item for page in await pages(admin, "/categories", limit=limit) for item in page] == made
            assert [item for page in await pages(admin, "/categories", limit=limit, parent_id=root["id"]) for item in page] == made[1:-1]
        assert await pages(admin, "/categories", parent_id=made[1]["id"]) == [[]]

    async def test_ids_sort_by_creation(self, admin: httpx.AsyncClient) -> None:
        ids = [(await a_category(admin, f"Category {number}"))["id"] for number in range(20)]
        assert all(first < second for first, second in pairwise(ids))
        assert {found[14] for found in ids} == {"7"}


class TestChanging:
    async def test_what_is_left_out_stays(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts", await a_category(admin, "Clothes"))
        after = (await change(admin, category, name="Blouses")).json()
        expected = {"name": "Blouses", "path": ["Clothes", "Blouses"], "version": 2, "updated_at": after["updated_at"]}
        assert after == category | expected
        assert (await change(admin, category, slug="blouses")).json()["slug"] == "blouses"

    async def test_a_stale_change_is_refused_and_if_match_may_be_left_out(self, admin: httpx.AsyncClient) -> None:
        category = await a_category(admin, "Shirts")
        address = f"{API}/categories/{category['id']}"
        assert (await admin.patch(address, json={"name": "x"}, headers={"If-Match": '"2"'})).status_code == 412
        assert (await admin.patch(address, json={"name": "x"}, headers={"If-Match": '"1"'})).headers["ETag"] == '"2"'
        assert (await admin.delete(address, headers={"If-Match": '"1"'})).status_code == 412
        assert (await admin.delete(address)).status_code == 204

    async def test_a_taken_slug_an_unknown_parent_and_a_circle_are_refused(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Root")
        child = await a_category(admin, "Child", root)
        grandchild = await a_category(admin, "Grandchild", child)
        assert (await change(admin, child, slug="root")).status_code == 409
        assert (await change(admin, child, parent_id=NOBODY)).status_code == 404
        for parent in (root, child, grandchild):
            assert (await change(admin, root, parent_id=parent["id"])).status_code == 409
        assert [item["path"] for item in (await pages(admin, "/categories"))[0]] == [
            ["Root"],
            ["Root", "Child"],
            ["Root", "Child", "Grandchild"],
        ]
        assert (await admin.patch(f"{API}/categories/{NOBODY}", json={"name": "x"})).status_code == 404

    async def test_a_moved_subtree_must_fit_into_the_tree(self, admin: httpx.AsyncClient) -> None:
        deep = await a_category(admin, "Level 1")
        for number in range(2, 20):
            deep = await a_category(admin, f"Level {number}", deep)
        tall = await a_category(admin, "Tall")
        await a_category(admin, "Taller", tall)
        assert (await change(admin, tall, parent_id=deep["id"])).status_code == 409
        assert (await change(admin, tall, parent_id=deep["parent_id"])).status_code == 200


class TestProductsInIt:
    async def test_a_category_means_its_whole_subtree_by_id_and_by_slug(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Clothes")
        child = await a_category(admin, "Shirts", root)
        other = await a_category(admin, "Toys")
        await a_product(admin, name="in root", category_ids=[root["id"]])
        await a_product(admin, name="in child", category_ids=[child["id"]])
        await a_product(admin, name="in child and other", category_ids=[child["id"], other["id"]])
        await a_product(admin, name="nowhere")
        for category, expected in (
            (root, ["in root", "in child", "in child and other"]),
            (child, ["in child", "in child and other"]),
            (other, ["in child and other"]),
        ):
            assert await found(admin, category["id"]) == await found(admin, category["slug"]) == expected
            assert await found(admin, category["slug"], limit=1) == expected
        assert await found(admin, NOBODY) == await found(admin, "no-such-category") == []

    async def test_a_product_shows_where_it_was_filed_not_the_ancestors(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Clothes")
        child = await a_category(admin, "Shirts", root)
        assert (await a_product(admin, category_ids=[child["id"]]))["category_ids"] == [child["id"]]
        product = await a_product(admin, category_ids=[child["id"], root["id"], child["id"]])
        assert product["category_ids"] == sorted([child["id"], root["id"]])
        product = (await patch(admin, product, category_ids=[child["id"]])).json()
        assert product["category_ids"] == [child["id"]]
        assert len(await found(admin, "clothes")) == 2

    async def test_a_move_takes_the_products_of_the_whole_subtree_along(self, admin: httpx.AsyncClient) -> None:
        old, new = await a_category(admin, "Old"), await a_category(admin, "New")
        child = await a_category(admin, "Child", old)
        grandchild = await a_category(admin, "Grandchild", child)
        await a_product(admin, name="in child", category_ids=[child["id"]])
        await a_product(admin, name="in grandchild", category_ids=[grandchild["id"]], status="draft")
        await a_product(admin, name="in both", category_ids=[grandchild["id"], old["id"]])
        assert await found(admin, "old") == ["in child", "in grandchild", "in both"]
        moved = (await change(admin, child, parent_id=new["id"])).json()
        assert (moved["path"], moved["version"]) == (["New", "Child"], 2)
        assert await found(admin, "old") == ["in both"]
        assert await found(admin, "new") == await found(admin, "child") == ["in child", "in grandchild", "in both"]
        assert await found(admin, "new", status="draft") == ["in grandchild"]
        await change(admin, grandchild, parent_id=None)
        assert await found(admin, "new") == ["in child"]
        assert await found(admin, "grandchild") == ["in grandchild", "in both"]

    async def test_deleting_a_category_leaves_its_products_and_their_other_places(self, admin: httpx.AsyncClient) -> None:
        root = await a_category(admin, "Root")
        child, sibling = await a_category(admin, "Child", root), await a_category(admin, "Sibling", root)
        only = await a_product(admin, name="only in child", category_ids=[child["id"]])
        await a_product(admin, name="in sibling too", category_ids=[child["id"], sibling["id"]])
        assert (await admin.delete(f"{API}/categories/{root['id']}")).status_code == 409
        answer = await admin.delete(f"{API}/categories/{child['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await admin.get(f"{API}/categories/{child['id']}")).status_code == 404
        assert (await admin.delete(f"{API}/categories/{child['id']}")).status_code == 404
        assert (await admin.get(f"{API}/products/{only['id']}")).json() == only | {"category_ids": []}
        assert await found(admin, "root") == await found(admin, "sibling") == ["in sibling too"]

    async def test_a_products_status_counts_in_every_category_it_is_in(self, admin: httpx.AsyncClient) -> None:
        child = await a_category(admin, "Child", await a_category(admin, "Root"))
        product = await a_product(admin, name="x", category_ids=[child["id"]], status="draft")
        for status in ("active", "archived", "draft"):
            product = (await patch(admin, product, status=status)).json()
            for category in ("child", "root"):
                assert await found(admin, category, status=status) == ["x"]
                assert await found(admin, category) == ([] if status == "archived" else ["x"])
