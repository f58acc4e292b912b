"""Migrations: what they make is what the models say, they lead up and down and up again, and any number may start at once."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, make_url

from app.core import migrations
from app.models import Base

ADVISORY_LOCK = 7_306_018_442
"""Part of the contract with every other version: with another number, two of them could migrate at once."""

SCRIPTS = ScriptDirectory(str(migrations.folder()))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]

# Everything that a migration can make, in words that compare.
_CATALOG = """
SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull::text, pg_get_expr(adbin, adrelid)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'p') AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL, NULL
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, indexname, indexdef, NULL, NULL FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), NULL, NULL FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'routine', proname, '', pg_get_functiondef(oid), NULL, NULL FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'type', typname, typtype::text, (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid), '', ''
FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typelem = 0
"""


@pytest.fixture
def empty_database(new_database: Callable[..., str]) -> str:
    """A database without any schema."""
    return new_database(template="template0")


@pytest.fixture
def with_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds a revision 9999 after the newest one, with the body of its `upgrade`."""
    migrations.known_revisions()  # remembered, so that the one added here stays unknown to the other tests

    def add(body: str) -> None:
        copytree(migrations.folder(), tmp_path / "migrations")
        text = f"from alembic import op\n\nrevision, down_revision = '9999', '{migrations.head()}'\n\n\ndef upgrade():\n    {body}\n"
        (tmp_path / "migrations" / "versions" / "9999_test.py").write_text(text)
        monkeypatch.setattr(migrations, "folder", lambda: tmp_path / "migrations")

    return add


def schema_of(url: str, *, only: Callable[[str], bool] = lambda name: name != "alembic_version") -> set[tuple[Any, ...]]:
    """All that is in the public schema."""
    with psycopg.connect(url) as connection:
        return {row for row in connection.execute(_CATALOG.encode()).fetchall() if only(row[1])}


def revision_of(url: str) -> str | None:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return rows[0][0] if rows else None


def test_models_and_migrations_agree_for_alembic(new_database: Callable[..., str]) -> None:
    command.check(migrations._config(new_database()))


def test_models_and_migrations_make_the_same_tables_constraints_and_indexes(new_database: Callable[..., str], empty_database: str) -> None:
    """More than Alembic compares: check constraints, conditions of indexes, and what they are called."""
    migrated = new_database()
    with psycopg.connect(migrated) as connection:
        rows = connection.execute("SELECT pg_get_functiondef('uuid_v7'::regproc)").fetchall()
    with psycopg.connect(empty_database) as connection:
        connection.execute(rows[0][0])
    engine = create_engine(make_url(empty_database).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    Base.metadata.create_all(engine)

    def is_ours(name: str) -> bool:
        return name in Base.metadata.tables

    assert schema_of(migrated, only=is_ours) - _triggers(migrated) == schema_of(empty_database, only=is_ours)


def test_every_migration_leads_up_and_down_and_up_again(empty_database: str) -> None:
    made: list[set[tuple[Any, ...]]] = []
    before, previous = _nothing(), "base"
    for revision in REVISIONS:
        migrations.upgrade(empty_database, revision)
        made.append(schema_of(empty_database))
        migrations.downgrade(empty_database, previous)
        assert schema_of(empty_database) == before
        migrations.upgrade(empty_database, revision)
        assert schema_of(empty_database) == made[-1]
        assert revision_of(empty_database) == revision
        before, previous = made[-1], revision
    assert revision_of(empty_database) == migrations.head()


def test_nothing_is_left_at_the_base(empty_database: str) -> None:
    for _ in range(2):
        migrations.upgrade(empty_database)
        assert schema_of(empty_database)
        migrations.downgrade(empty_database, "base")
        assert schema_of(empty_database) == set()
        assert revision_of(empty_database) is None


def test_every_migration_is_one_file_named_after_its_revision() -> None:
    files = sorted(file.name for file in (migrations.folder() / "versions").glob("*.py"))
    assert [name.partition("_")[0] for name in files] == REVISIONS


def test_a_second_upgrade_changes_nothing(new_database: Callable[..., str]) -> None:
    url = new_database()
    before = schema_of(url)
    migrations.upgrade(url)
    assert schema_of(url) == before


def test_a_schema_of_a_newer_version_is_left_as_it_is(new_database: Callable[..., str]) -> None:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    migrations.upgrade(url)
    assert revision_of(url) == "9999"


def test_four_at_once_migrate_once(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        with _running(_FOUR_PROCESSES, empty_database) as parent:
            deadline = time.monotonic() + 60
            while _waiting(holder) < 4:
                assert parent.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert schema_of(empty_database) == set()
            holder.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
            _, errors = parent.communicate(timeout=60)
    assert (parent.returncode, errors) == (0, b"")
    assert revision_of(empty_database) == migrations.head()


def test_a_migration_waits_neither_long_for_locks_nor_for_ever(
    new_database: Callable[..., str], with_revision: Callable[[str], None]
) -> None:
    url = new_database()
    with_revision(
        "op.execute(\"CREATE TABLE limits AS SELECT current_setting('lock_timeout') AS lock, current_setting('statement_timeout')\")"
    )
    migrations.upgrade(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT * FROM limits").fetchone() == ("4s", "10min")


def test_a_migration_that_fails_leaves_nothing_half_done_and_nobody_locked_out(
    new_database: Callable[..., str], with_revision: Callable[[str], None]
) -> None:
    url = new_database()
    before = schema_of(url)
    with_revision("op.execute('CREATE TABLE half_done ()'); raise RuntimeError('half way')")
    with pytest.raises(RuntimeError, match="half way"):
        migrations.upgrade(url)
    assert schema_of(url) == before
    assert revision_of(url) == migrations.head()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK]).fetchone() == (True,)


@pytest.mark.parametrize(
    ("revision", "current"),
    [*((revision, False) for revision in REVISIONS[:-1]), (REVISIONS[-1], True), ("9999", True), ("a-newer-one", True), (None, False)],
)
def test_this_code_runs_on_its_own_schema_and_on_one_it_does_not_know(revision: str | None, *, current: bool) -> None:
    assert migrations.is_current(revision) is current


def test_the_head_is_the_last_of_the_revisions_in_a_line() -> None:
    assert migrations.head() == REVISIONS[-1]
    assert migrations.known_revisions() == set(REVISIONS)


def _nothing() -> set[tuple[Any, ...]]:
    return set()


def _triggers(url: str) -> set[tuple[Any, ...]]:
    return {row for row in schema_of(url) if row[0] == "trigger"}


def _waiting(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
    return len(connection.execute(query).fetchall())


_FOUR_PROCESSES = """
import os, sys
from app.core import migrations
for _ in range(4):
    if os.fork() == 0:
        migrations.upgrade(sys.argv[1])
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in range(4)]))
"""


@contextmanager
def _running(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=root, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
