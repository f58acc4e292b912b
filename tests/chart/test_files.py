"""The scripts that the chart's containers run, run here as they run there."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from app.core.config import Settings
from tests.operations import PASSWORD
from tests.pgbouncer.bouncers import PROGRAM
from tests.serving.servers import COMMAND, environment_of, free_port, serving

PSQL = shutil.which("psql")


@pytest.fixture
def files(chart_folder: Path) -> Path:
    return chart_folder / "files"


async def test_the_round_trip_stores_reads_and_removes_through_the_service(
    files: Path, settings: Settings, new_database: Callable[..., str]
) -> None:
    environment = environment_of(settings) | {"APP_DATABASE_URL": new_database(), "APP_ADMIN_PASSWORD": PASSWORD}
    made = await asyncio.create_subprocess_exec(*COMMAND, "user", "ensure-admin", env=environment)
    assert await made.wait() == 0

    async def round_trip(**more: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", (files / "round_trip.py").read_text(), env={"STOCKROOM_URL": server.url, **more}, stdout=-1, stderr=-2
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    async with serving(environment) as server:
        code, out = await round_trip(STOCKROOM_USERNAME="admin@example.com", STOCKROOM_PASSWORD=PASSWORD)
        assert code == 0, out
        assert [line.split()[0] for line in out.splitlines()] == ["GET", "GET", "POST", "POST", "POST", "GET", "DELETE", "GET"]
        code, out = await round_trip()
        assert code == 0
        assert "nothing was stored" in out
        code, out = await round_trip(STOCKROOM_USERNAME="admin@example.com", STOCKROOM_PASSWORD="another password")
        assert code == 1
        assert "POST /api/v1/auth/login: 401 instead of 200" in out


class TestPgbouncer:
    def configured(self, files: Path, folder: Path, url: str) -> tuple[str, str]:
        settings = {"APP_DATABASE_DIRECT_URL": url, "PGBOUNCER_FOLDER": str(folder), "MAX_CLIENT_CONNECTIONS": "1000", "POOL_SIZE": "10"}
        subprocess.run([sys.executable, "-c", (files / "pgbouncer.py").read_text()], env=settings, check=True)
        return (folder / "pgbouncer.ini").read_text(), (folder / "userlist.txt").read_text()

    def test_leads_to_the_server_of_the_url(self, files: Path, tmp_path: Path) -> None:
        settings, users = self.configured(files, tmp_path, "postgresql://shop:p%40ss%22w'rd@db.internal:5433/stockroom?sslmode=require")
        lines = settings.splitlines()
        assert lines[1] == "* = host='db.internal' port='5433' connect_query='SET statement_timeout = 5000'"
        assert {"server_tls_sslmode = require", "max_client_conn = 1000", "default_pool_size = 10", "pool_mode = transaction"} <= set(lines)
        assert users == '"shop" "p@ss""w\'rd"\n'

    @pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here")
    def test_a_real_one_takes_it(self, files: Path, database_url: str) -> None:
        direct = make_url(database_url)
        # The server's socket is its owner's alone, and PgBouncer refuses to run as root.
        owner = Path(str(direct.query["host"])).stat()
        as_owner: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()} if os.geteuid() == 0 else {}
        port = free_port()
        through = direct.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            settings, _ = self.configured(files, folder, database_url)
            (folder / "pgbouncer.ini").write_text(settings.replace("listen_port = 6432", f"listen_port = {port}"))
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.st_uid, owner.st_gid)
            with subprocess.Popen([str(PROGRAM), str(folder / "pgbouncer.ini")], stderr=subprocess.PIPE, **as_owner) as process:
                assert process.stderr is not None
                said = next(line for line in process.stderr if b"process up" in line or b"FATAL" in line)
                assert b"process up" in said
                with psycopg.connect(through, prepare_threshold=None, autocommit=True) as connection:
                    assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
                process.kill()


@pytest.mark.skipif(PSQL is None, reason="there is no psql here")
class TestPrepareDatabase:
    @pytest.fixture
    def prepared(self, files: Path, server_urls: tuple[str, str]) -> Iterator[Callable[..., psycopg.Connection]]:
        """Runs the script as PostgreSQL's superuser, and connects as the role that it has made."""
        admin = make_url(server_urls[0])
        name = f"prepared_{uuid4().hex}"
        with psycopg.connect(server_urls[0], autocommit=True) as superuser:
            superuser.execute(f"CREATE DATABASE {name}")

            def run(**given: str) -> psycopg.Connection:
                settings = {"ROLE": name, "ROLE_PASSWORD": "it's", "CONNECTION_LIMIT": "7", **given}
                place = {
                    "PGHOST": str(admin.query["host"]),
                    "PGPORT": str(admin.query["port"]),
                    "PGUSER": admin.username or "",
                    "PGDATABASE": name,
                }
                script = (files / "prepare-database.sh").read_text()
                environment = {"PATH": os.environ["PATH"], "PGPASSWORD": admin.password or "", **place, **settings}
                subprocess.run(["sh", "-c", script], env=environment, check=True)
                as_role = admin.set(username=name, password=settings["ROLE_PASSWORD"], database=name)
                return psycopg.connect(as_role.render_as_string(hide_password=False), autocommit=True)

            yield run
            superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
            superuser.execute(f"DROP ROLE {name}")

    def test_makes_a_role_with_a_limit_that_counts_and_may_make_the_schema(self, prepared: Callable[..., psycopg.Connection]) -> None:
        with prepared() as connection:
            row = connection.execute("SELECT rolconnlimit, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            assert row == (7, False)
            connection.execute("CREATE TABLE made (id int)")

    def test_again_changes_the_limit_and_the_password_and_nothing_else(self, prepared: Callable[..., psycopg.Connection]) -> None:
        with prepared() as connection:
            connection.execute("CREATE TABLE made (id int)")
        with prepared(ROLE_PASSWORD="another", CONNECTION_LIMIT="9") as connection:
            assert connection.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user").fetchone() == (9,)
            connection.execute("SELECT FROM made")
