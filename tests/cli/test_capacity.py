"""`stockroom capacity`: the plan as a table and as settings, and the plan against a live server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import helm_python as helm
import psycopg
import pytest
import yaml
from sqlalchemy import make_url

Stockroom = Callable[..., tuple[int, str, str]]

CHART = Path(__file__).parents[2] / "helm" / "stockroom"
SMALL_POD = ("--cpu-limit", "500m", "--memory-limit", "256Mi")
ROLL_OUT = ("--replica-ceiling", "20", "--surge-pods", "5", "--terminating-pods", "20")


def value(table: str, name: str) -> str:
    """A number of the table, by the name of its row."""
    (line,) = (line for line in table.splitlines() if line.startswith(f"{name} "))
    return line.removeprefix(name).split()[0]


class TestPlan:
    def test_shows_the_arithmetic_and_the_settings(self, stockroom: Stockroom) -> None:
        code, out, err = stockroom("capacity", "plan", *SMALL_POD, "--replica-ceiling", "2", "--terminating-pods", "2")
        assert (code, err) == (0, "")
        assert (value(out, "peak workers"), value(out, "usable connections"), value(out, "pool size")) == ("4", "97", "5")

    def test_takes_what_no_flag_gives_from_the_environment(self, stockroom: Stockroom) -> None:
        code, out, _ = stockroom("capacity", "plan", *SMALL_POD, APP_REPLICA_CEILING="3", APP_OTHER_CONNECTIONS="7")
        assert code == 0
        assert (value(out, "peak pods"), value(out, "- other clients")) == ("3", "7")

    def test_of_what_does_not_fit_shows_the_way_out_and_exits_with_1(self, stockroom: Stockroom) -> None:
        code, out, _ = stockroom("capacity", "plan", *SMALL_POD, *ROLL_OUT)
        assert code == 1
        assert "REFUSED: a pool needs at least 2 connections and its share is 0." in out
        assert "replica_ceiling=11, terminating_pods=11" in out

    def test_the_way_out_is_one(self, stockroom: Stockroom) -> None:
        _, out, _ = stockroom("capacity", "plan", *SMALL_POD, *ROLL_OUT, "--format", "json")
        refusal = json.loads(out)
        assert refusal["fits"] is False
        for suggestion in refusal["suggestions"]:
            flags = [part for name, number in suggestion["changes"] for part in (f"--{name.replace('_', '-')}", str(number))]
            assert stockroom("capacity", "plan", *SMALL_POD, *ROLL_OUT, *flags)[0] == 0

    def test_as_environment_makes_the_same_plan_again(self, stockroom: Stockroom) -> None:
        wanted = (*SMALL_POD, "--replica-ceiling", "4", "--arrival-rate", "300", "--workers-ceiling", "1")
        _, table, _ = stockroom("capacity", "plan", *wanted)
        code, out, _ = stockroom("capacity", "plan", *wanted, "--format", "env")
        settings = dict(line.split("=") for line in out.splitlines() if not line.startswith("#"))
        assert code == 0
        assert settings["APP_REPLICA_CEILING"] == "4"
        assert settings["ROLE_CONNECTION_LIMIT"] in next(line for line in table.splitlines() if line.startswith("role's connections"))
        assert stockroom("capacity", "plan", *SMALL_POD, **settings)[1] == table

    def test_as_environment_keeps_the_peak_of_the_job_workers(self, stockroom: Stockroom) -> None:
        wanted = (*SMALL_POD, "--job-replica-ceiling", "2", "--job-surge-pods", "1", "--job-terminating-pods", "2")
        _, out, _ = stockroom("capacity", "plan", *wanted, "--format", "env")
        settings = dict(line.split("=") for line in out.splitlines() if not line.startswith("#"))
        plans = [
            json.loads(stockroom("capacity", "plan", *how, "--format", "json", **environment)[1])
            for how, environment in ((wanted, {}), (SMALL_POD, settings))
        ]
        assert plans[0]["peak_connections"] == plans[1]["peak_connections"]

    @pytest.mark.parametrize(
        "flags",
        [
            ("--replica-ceiling", "4", "--max-connections", "10000", "--hold-time-ms", "2.5"),
            ("--replica-ceiling", "3", "--surge-pods", "0.5", "--terminating-pods", "3", "--workers-ceiling", "1", "--arrival-rate", "300"),
            ("--job-replica-ceiling", "2", "--job-surge-pods", "1", "--job-terminating-pods", "1", "--database-cores", "2"),
            ("--pgbouncer-max-client-connections", "1000000", "--pgbouncer-server-connections", "10", "--role-connection-limit", "50"),
        ],
    )
    def test_as_helm_values_makes_the_chart_plan_the_same(self, stockroom: Stockroom, flags: tuple[str, ...]) -> None:
        wanted = ("capacity", "plan", *SMALL_POD, *flags, "--format")
        plan = json.loads(stockroom(*wanted, "json")[1])
        code, out, _ = stockroom(*wanted, "helm")
        assert code == 0
        values = {"mode": "production", "existingSecret": "secrets", **yaml.safe_load(out)}
        notes = helm.Chart.load(CHART).render(values, name="stockroom", namespace="shop")["stockroom/templates/NOTES.txt"]
        assert (
            f"Capacity: {plan['arithmetic']['peak_pods']} pods at the peak of a roll-out, {plan['workers_per_pod']} worker(s) each, pools of"
            f" {plan['pool_size']}: at most {plan['peak_connections']} of {plan['arithmetic']['usable_connections']} connections."
        ) in notes
        assert f"CONNECTION LIMIT {plan['role_connections']};" in notes

    def test_as_helm_values_gives_a_pod_only_limits_that_somebody_set(self, stockroom: Stockroom) -> None:
        _, out, _ = stockroom("capacity", "plan", "--cpu-limit", "1", "--format", "helm")
        assert yaml.safe_load(out)["resources"] == {"limits": {"cpu": "1000m"}}

    @pytest.mark.parametrize("shape", ["env", "helm"])
    def test_what_is_written_into_a_file_keeps_its_warnings_and_is_nothing_when_refused(self, stockroom: Stockroom, shape: str) -> None:
        _, out, _ = stockroom("capacity", "plan", "--cpu-limit", "1", "--memory-limit", "128Mi", "--format", shape)
        assert "# warning: a pod needs 200 MiB" in out
        code, out, err = stockroom("capacity", "plan", "--cpu-limit", "1", "--replica-ceiling", "1000", "--format", shape)
        assert (code, out) == (1, "")
        assert "REFUSED" in err

    def test_flags_complete_what_the_environment_says(self, stockroom: Stockroom) -> None:
        flags = ("--cpu-limit", "1", "--pgbouncer-max-client-connections", "500", "--format", "json")
        code, out, _ = stockroom("capacity", "plan", *flags, APP_PGBOUNCER_SERVER_CONNECTIONS="40")
        assert code == 0
        assert (json.loads(out)["standing_waiters_per_worker"], json.loads(out)["password_cores_per_worker"]) == (30, 0.5)

    @pytest.mark.parametrize(
        ("flags", "complaint"),
        [
            (("--cpu-limit", "plenty"), "--cpu-limit is 'plenty'"),
            (("--memory-limit", "0"), "'0'"),
            (("--replica-ceiling", "0"), "replica_ceiling is 0: give a number from 1 to 10000"),
            (("--pgbouncer-max-client-connections", "100"), "both, or neither"),
        ],
    )
    def test_refuses_nonsense_in_one_line(self, stockroom: Stockroom, flags: tuple[str, ...], complaint: str) -> None:
        code, _, err = stockroom("capacity", "plan", *flags)
        assert code == 1
        assert err.startswith("error: ")
        assert complaint in err
        assert len(err.splitlines()) == 1


class TestCheck:
    @pytest.fixture
    def role(self, server_urls: tuple[str, str], new_database: Callable[..., str]) -> Iterator[tuple[str, psycopg.Connection]]:
        """A role of one's own with room for 40 connections, as a URL, and a superuser who may change it. Others come and go on that server."""
        name = f"role_{uuid4().hex}"
        url = make_url(new_database())
        with psycopg.connect(server_urls[0], autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p' CONNECTION LIMIT 40")
            yield url.set(username=name, password="p").render_as_string(hide_password=False), admin
            admin.execute(f"DROP ROLE {name}")

    def test_that_fits_says_so_with_the_arithmetic_and_exits_with_0(
        self, stockroom: Stockroom, role: tuple[str, psycopg.Connection]
    ) -> None:
        code, out, err = stockroom("capacity", "check", APP_DATABASE_URL=role[0], APP_CPU_LIMIT="1", APP_OTHER_CONNECTIONS="250")
        assert (code, err) == (0, "")
        assert value(out, "usable connections") == "297"
        assert ", at most the role's 40" in out
        assert out.splitlines()[0].startswith("CPU limit from APP_CPU_LIMIT=1, memory limit from ")
        assert out.splitlines()[-1] == "it fits"

    def test_that_does_not_fit_exits_with_1(self, stockroom: Stockroom, role: tuple[str, psycopg.Connection]) -> None:
        limits = {"APP_CPU_LIMIT": "1", "APP_REPLICA_CEILING": "13", "APP_OTHER_CONNECTIONS": "200"}
        code, out, _ = stockroom("capacity", "check", APP_DATABASE_URL=role[0], **limits)
        assert code == 1
        assert "What binds: role_connection_limit = 40" in out

    def test_more_connections_of_the_role_than_planned_do_not_fit(self, stockroom: Stockroom, role: tuple[str, psycopg.Connection]) -> None:
        open_now = [psycopg.connect(role[0]) for _ in range(20)]
        code, _, err = stockroom(
            "capacity", "check", APP_DATABASE_URL=role[0], APP_CPU_LIMIT="1", APP_OTHER_CONNECTIONS="250", APP_JOB_WORKER_PODS="0"
        )
        for connection in open_now:
            connection.close()
        assert code == 1
        assert "does not fit: 20 connections of this role are open and the plan's peak is 7" in err

    def test_more_connections_of_others_than_planned_do_not_fit_and_the_setting_is_named(
        self, stockroom: Stockroom, role: tuple[str, psycopg.Connection]
    ) -> None:
        code, _, err = stockroom("capacity", "check", APP_DATABASE_URL=role[0], APP_CPU_LIMIT="1", APP_OTHER_CONNECTIONS="0")
        assert code == 1
        assert "set APP_OTHER_CONNECTIONS=" in err

    def test_that_finds_no_server_cannot_tell_and_exits_with_2(self, stockroom: Stockroom) -> None:
        code, out, err = stockroom("capacity", "check", APP_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x")
        assert (code, out) == (2, "")
        assert err.startswith("cannot tell: ")
        assert "secret" not in err

    @pytest.mark.parametrize(
        "environment",
        [{}, {"APP_DATABASE_URL": "nonsense"}, {"APP_DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "APP_CPU_LIMIT": "plenty"}],
    )
    def test_that_cannot_read_its_settings_cannot_tell_either(self, stockroom: Stockroom, environment: dict[str, str]) -> None:
        code, out, err = stockroom("capacity", "check", **environment)
        assert (code, out) == (2, "")
        assert err.startswith("cannot tell: ")

    def test_a_superuser_has_no_limit(self, stockroom: Stockroom, role: tuple[str, psycopg.Connection]) -> None:
        name = make_url(role[0]).username
        role[1].execute(f"ALTER ROLE {name} SUPERUSER")
        _, out, _ = stockroom("capacity", "check", APP_DATABASE_URL=role[0], APP_CPU_LIMIT="1", APP_OTHER_CONNECTIONS="250")
        assert "the role's" not in out.split("role's connections")[0]
