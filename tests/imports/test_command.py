"""`stockroom import`, from a file to the exit code."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from app.cli import imports, main
from app.core.config import get_settings
from app.importers import FORMATS

SAMPLES = Path(__file__).parent / "samples"
TABLES = ("category", "location", "product", "product_category", "product_tag", "variant", "price", "stock_level", "stock_movement")
Stockroom = Callable[..., tuple[int, str, str]]

HEADER = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Qty,Variant Price\n"


@pytest.fixture(scope="module")
def url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture
def operator(url: str) -> Iterator[psycopg.Connection]:
    """What an operator sees in the database, which is empty at first."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        yield connection


@pytest.fixture
def stockroom_import(
    url: str,
    operator: psycopg.Connection,  # noqa: ARG001 - empties the database
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Stockroom]:
    """The command, in a folder of its own: gives its exit code, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stockroom", "import", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    monkeypatch.setenv("APP_DATABASE_URL", url)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield run
    get_settings.cache_clear()


def everything(operator: psycopg.Connection) -> dict[str, list[Any]]:
    query = "SELECT to_jsonb(t) || jsonb_build_object('xmin', xmin::text) FROM {} t ORDER BY 1"
    return {table: operator.execute(query.format(table)).fetchall() for table in TABLES}


def stored(operator: psycopg.Connection, query: str) -> list[Any]:
    return [row if len(row) > 1 else row[0] for row in operator.execute(query.encode()).fetchall()]


def errors_in(file: str) -> list[tuple[int, str | None]]:
    return [(error["line"], error["field"]) for error in map(orjson.loads, Path(file).read_bytes().splitlines())]


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("shopify_old.csv", {"products": 2, "variants": 4, "stock levels": 4}),
        ("shopify_current.csv", {"products": 2, "variants": 3, "stock levels": 2}),
        ("products.jsonl", {"products": 2, "variants": 3, "stock levels": 1}),
        ("bestbuy_categories.json", {"categories": 4}),
        ("bestbuy_stores.json", {"locations": 2}),
    ],
)
def test_every_format_is_imported_and_the_second_time_changes_nothing(
    stockroom_import: Stockroom, operator: psycopg.Connection, tmp_path: Path, name: str, counts: dict[str, int], is_packed: bool
) -> None:
    file = tmp_path / f"{name}.gz" if is_packed else SAMPLES / name
    if is_packed:
        file.write_bytes(gzip.compress((SAMPLES / name).read_bytes()))
    code, out, err = stockroom_import(file)
    assert (code, err) == (0, "")
    for what, count in counts.items():
        assert f"{what}{count:>{out.index('created') + 7 - len(what)}}" in out
    assert "nothing changed" not in out
    before = everything(operator)
    code, out, err = stockroom_import(file)
    assert (code, err) == (0, "")
    assert "nothing changed" in out
    assert everything(operator) == before
    assert list(tmp_path.glob("*.errors.jsonl")) == []


def test_an_old_shopify_export_is_in_the_catalogue(stockroom_import: Stockroom, operator: psycopg.Connection) -> None:
    code, out, _ = stockroom_import(SAMPLES / "shopify_old.csv")
    assert code == 0
    assert "2 variants came without a SKU" in out
    assert "the location MAIN was made" in out
    assert stored(operator, "SELECT sku FROM variant ORDER BY product_id, position") == [
        "RS-38-N",
        "RS-39-N",
        "ROPE-SANDAL_39_INDIGO",
        "TIN-KETTLE",
    ]
    assert stored(operator, "SELECT slug, status FROM product ORDER BY id") == [("rope-sandal", "active"), ("tin-kettle", "draft")]
    assert stored(operator, "SELECT on_hand FROM stock_level JOIN variant ON id = variant_id ORDER BY product_id, position") == [4, 0, 7, 0]
    assert stored(operator, "SELECT delta_on_hand FROM stock_movement ORDER BY 1") == [4, 7]


def test_currency_and_location_are_those_that_are_said(stockroom_import: Stockroom, operator: psycopg.Connection) -> None:
    code, out, _ = stockroom_import(SAMPLES / "shopify_current.csv", "--currency", "USD", "--location", "SHOP-2")
    assert code == 0
    assert "the location SHOP-2 was made" in out
    assert stored(operator, "SELECT DISTINCT currency FROM price") == ["USD"]
    assert stored(operator, "SELECT DISTINCT code FROM stock_level JOIN location ON id = location_id") == ["SHOP-2"]


def test_a_row_that_fails_is_told_with_its_line_and_the_others_stay(
    stockroom_import: Stockroom, operator: psycopg.Connection, tmp_path: Path
) -> None:
    rows = [
        "cup,Cup,,,CUP,1,4.90",
        "mug,Mug,,,MUG,1,free",
        'bowl,"A\nbowl",,,BOWL,1,9.00',
        "jug,Jug,,,NO WAY,1,9.00",
        "can,Can,,,CUP,1,9.00",
        "pan,Pan,,,PAN,1,9",
    ]
    file = tmp_path / "shop.csv"
    file.write_text(HEADER + "\n".join(rows) + "\n")
    for expected in ("created", "unchanged"):
        code, out, err = stockroom_import(file)
        assert code == 1
        assert err == "3 of 6 rows failed; shop.csv.errors.jsonl says why\n"
        assert expected in out
        assert errors_in("shop.csv.errors.jsonl") == [(3, "Variant Price"), (6, "/variants/0/sku"), (7, "/variants/0/sku")]
    assert stored(operator, "SELECT slug FROM product ORDER BY id") == ["cup", "bowl", "pan"]
    file.write_text(HEADER + rows[0])
    assert stockroom_import(file)[0] == 0
    assert Path("shop.csv.errors.jsonl").read_bytes() == b""


def test_errors_go_where_they_are_wanted(stockroom_import: Stockroom, tmp_path: Path) -> None:
    Path("bad.jsonl").write_text("{}\nnonsense\n")
    assert stockroom_import("bad.jsonl", "--errors", "why.txt")[0] == 1
    assert errors_in("why.txt") == [(1, "/name"), (1, "/variants"), (2, None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "why.txt"]


def test_a_dry_run_says_what_would_happen_and_stores_nothing(stockroom_import: Stockroom, operator: psycopg.Connection) -> None:
    code, rehearsed, err = stockroom_import(SAMPLES / "shopify_old.csv", "--dry-run")
    assert (code, err) == (0, "")
    assert rehearsed.endswith("dry run: nothing was stored\n")
    assert all(rows == [] for rows in everything(operator).values())
    _, done, _ = stockroom_import(SAMPLES / "shopify_old.csv")
    assert rehearsed == done + "dry run: nothing was stored\n"


def test_a_dry_run_finds_the_rows_that_would_fail(stockroom_import: Stockroom, operator: psycopg.Connection) -> None:
    Path("shop.csv").write_text(HEADER + "cup,Cup,,,CUP,1,4.90\nmug,Mug,,,CUP,1,4.90\n")
    assert stockroom_import("shop.csv", "--dry-run")[0] == 1
    assert errors_in("shop.csv.errors.jsonl") == [(3, "/variants/0/sku")]
    assert stored(operator, "SELECT slug FROM product") == []


def test_a_file_in_no_known_format_is_refused_with_a_list_of_the_formats(stockroom_import: Stockroom) -> None:
    Path("notes.txt").write_text("buy milk\n")
    code, _, err = stockroom_import("notes.txt")
    assert code == 2
    assert err.startswith("error: cannot tell the format of notes.txt")
    assert all(name in err for name in FORMATS)


def test_the_help_names_every_format(stockroom_import: Stockroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = stockroom_import("--help")
    assert code == 0
    # Colours, which some terminals and services switch on, would stand between.
    assert "|".join(FORMATS) in re.sub(r"\x1b\[[0-9;]*m", "", out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.csv"], "cannot read gone.csv: No such file or directory"),
        (["."], "cannot read .: Is a directory"),
        (["shop.csv", "--format", "woo"], "there is no format 'woo'"),
        (["shop.csv", "--currency", "EURO"], "'EURO' is not an active ISO 4217 currency code"),
        (["shop.csv", "--location", "no such"], "'no such' is no code of a location"),
        (["shop.csv", "--errors", "shop.csv"], "errors cannot be written over shop.csv itself"),
        (["shop.csv", "--errors", "gone/errors"], "cannot write gone/errors: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    stockroom_import: Stockroom, tmp_path: Path, arguments: list[str], said: str
) -> None:
    content = HEADER + "cup,Cup,,,CUP,1,4.90\n"
    Path("shop.csv").write_text(content)
    code, out, err = stockroom_import(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["shop.csv"]
    assert Path("shop.csv").read_text() == content


def test_a_file_with_nothing_in_it_changes_nothing(stockroom_import: Stockroom) -> None:
    Path("empty.jsonl").touch()
    assert stockroom_import("empty.jsonl") == (0, "nothing changed\n", "")


def test_progress_is_a_line_from_time_to_time_without_a_terminal(stockroom_import: Stockroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_PLAIN_PROGRESS_SECONDS", 0.0)
    Path("shop.csv").write_text(HEADER + "".join(f"p-{number},P,,,P-{number},1,1.00\n" for number in range(600)))
    _, _, err = stockroom_import("shop.csv")
    first, last = err.splitlines()
    assert "lines, " in first
    assert last.startswith("100%  601 lines, ")
    assert last.endswith("a second, 0 s left")


def test_progress_is_a_bar_on_a_terminal(stockroom_import: Stockroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    _, _, err = stockroom_import(SAMPLES / "shopify_old.csv")
    assert "━" in err
    assert "lines, " in err


def test_without_a_database_it_says_so_in_a_few_words(stockroom_import: Stockroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://stockroom@127.0.0.1:1/stockroom")
    get_settings.cache_clear()
    code, out, err = stockroom_import(SAMPLES / "products.jsonl")
    assert (code, out) == (1, "")
    assert err.startswith("error: the database does not answer")


def test_when_the_database_goes_away_it_says_how_far_it_came(
    stockroom_import: Stockroom, operator: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_database(*_: object) -> str:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} CONNECTION LIMIT 0".encode())
        operator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        return "lost"

    monkeypatch.setattr(imports, "_PLAIN_PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(imports, "_pace", lose_the_database)
    Path("shop.csv").write_text(HEADER + "".join(f"p-{number},P,,,P-{number},1,1.00\n" for number in range(600)))
    try:
        code, _, err = stockroom_import("shop.csv")
    finally:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} CONNECTION LIMIT -1".encode())
    assert code == 1
    assert "stopped after line 501; importing the file again is safe and stores the rest\nerror: the database does not answer" in err
    assert stored(operator, "SELECT count(*) FROM product") == [500]


def test_ctrl_c_stores_the_batch_at_hand_and_the_rest_can_follow(
    stockroom_import: Stockroom, operator: psycopg.Connection, url: str, tmp_path: Path
) -> None:
    count = 6_000
    file = tmp_path / "shop.csv"
    file.write_text(HEADER + "".join(f"p-{number},P,,,P-{number},1,1.00\n" for number in range(count)))
    command = [sys.executable, "-m", "app.cli", "import", str(file)]
    with subprocess.Popen(
        command,
        env={**os.environ, "APP_DATABASE_URL": url, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not stored(operator, "SELECT slug FROM product LIMIT 1") and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    (kept,) = stored(operator, "SELECT count(*) FROM product")
    assert 0 < kept < count
    assert f"{kept:,}" in out
    assert err == f"stopped by Ctrl-C after line {kept + 1}; importing the file again is safe and stores the rest\n"
    code, _, _ = stockroom_import(file)
    assert code == 0
    assert stored(operator, "SELECT count(*) FROM stock_level WHERE on_hand = 1") == [count]
