from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.capacity.explaining import explain
from app.capacity.model import Inputs, Plan, Refusal, Suggestion, plan
from tests.inputs import LAPTOP

MIB = 1024 * 1024

SMALL_POD = replace(
    LAPTOP,
    cpu_limit_millicores=500,
    memory_limit_bytes=256 * MIB,
    replica_ceiling=2,
    surge_pods=0.5,
    terminating_pods=2,
    job_surge_pods=1,
    job_terminating_pods=1,
    other_client_connections=5,
)
TWENTY_PODS = replace(SMALL_POD, cpu_limit_millicores=1000, replica_ceiling=20, surge_pods=5, terminating_pods=20, max_connections=400)


def accepted(inputs: Inputs) -> Plan:
    decision = plan(inputs)
    assert isinstance(decision, Plan), explain(decision)
    return decision


def refused(inputs: Inputs) -> Refusal:
    decision = plan(inputs)
    assert isinstance(decision, Refusal), explain(decision)
    return decision


class TestWorkedExamples:
    def test_a_laptop_runs_a_worker_a_core_with_five_connections_each(self) -> None:
        p = accepted(LAPTOP)
        a = p.arithmetic
        assert (a.workers_by_cpu, a.workers_by_memory, p.workers_per_pod) == (2, None, 2)
        assert (a.peak_pods, a.peak_workers, a.peak_job_pods) == (1, 2, 1)
        assert (a.usable_connections, a.job_connections, a.direct_connections) == (97, 5, 2)
        assert (a.budget_connections, a.cap_connections_per_pool) == (89, 44)  # 97 - 5 - 1 migration - 2; 89 / 2
        assert (p.pool_size, p.max_overflow) == (5, 0)
        assert (p.pool_connections, p.peak_connections) == (10, 18)  # 10 + 5 + 1 + 2
        assert (p.waiters_per_worker, p.password_hashes_per_worker) == (100, 1)  # 5 x 200 ms / 10 ms
        assert (p.standing_waiters_per_worker, p.password_cores_per_worker) == (30, 0.5)
        assert p.warnings == ()

    def test_a_small_pod_runs_one_worker_and_counts_both_generations_of_a_roll_out(self) -> None:
        p = accepted(SMALL_POD)
        a = p.arithmetic
        assert (a.workers_by_cpu, a.workers_by_memory, p.workers_per_pod) == (1, 1, 1)  # (256 - 110) / 90
        assert (a.peak_pods, a.peak_job_pods) == (5, 3)  # 2 + 1 + 2; 1 + 1 + 1
        assert a.budget_connections == 71  # 97 - 15 - 1 - 5 - 5
        assert (a.cap_connections_per_pool, p.pool_size) == (14, 5)
        assert p.peak_connections == 51  # 25 + 15 + 1 + 5 + 5

    def test_twenty_pods_on_four_hundred_connections_get_what_they_can_use(self) -> None:
        p = accepted(TWENTY_PODS)
        assert p.arithmetic.peak_workers == 45
        assert p.arithmetic.budget_connections == 331  # 397 - 15 - 1 - 5 - 45
        assert (p.arithmetic.cap_connections_per_pool, p.pool_size) == (7, 5)
        assert p.peak_connections == 291  # 225 + 15 + 1 + 5 + 45

    def test_twenty_pods_on_a_hundred_connections_are_refused_with_what_would_fit(self) -> None:
        r = refused(replace(TWENTY_PODS, max_connections=100))
        assert r.arithmetic.budget_connections == 31  # 97 - 15 - 1 - 5 - 45
        assert r.arithmetic.cap_connections_per_pool == 0
        assert r.binding_input == "replica_ceiling"
        assert [dict(s.changes) for s in r.suggestions] == [
            {"replica_ceiling": 10, "terminating_pods": 10},  # 25 pods x 3 = 75 of 97 - 21 = 76
            {"max_connections": 159},  # 100 + 45 x 2 - 31
        ]
        assert r.pgbouncer is not None
        assert "max_client_conn >= 270" in r.pgbouncer  # 225 + 45
        assert "default_pool_size x its replicas <= 76" in r.pgbouncer  # 97 - 5 - 1 - 15

    def test_behind_a_pgbouncer_of_that_size_they_fit(self) -> None:
        p = accepted(
            replace(
                TWENTY_PODS, max_connections=100, pgbouncer_max_client_connections=270, pgbouncer_server_connections=76, database_cores=12
            )
        )
        assert p.pool_size == 5
        assert (p.pool_connections, p.arithmetic.direct_connections) == (225, 45)
        assert (p.role_connections, p.peak_connections) == (92, 97)  # 76 + 15 + 1; + 5
        assert p.warnings == ()

    def test_a_pgbouncer_that_may_open_too_much_is_refused_in_favour_of_a_smaller_one(self) -> None:
        r = refused(replace(TWENTY_PODS, max_connections=100, pgbouncer_max_client_connections=270, pgbouncer_server_connections=77))
        assert r.binding_input == "pgbouncer_server_connections"
        assert [dict(s.changes) for s in r.suggestions] == [{"pgbouncer_server_connections": 76}, {"max_connections": 101}]
        assert r.pgbouncer is None
        assert "what PgBouncer may open is 1 more than the server has left" in explain(r)

    def test_a_role_s_limit_below_the_server_s_binds_and_is_what_to_raise(self) -> None:
        assert accepted(replace(LAPTOP, role_connection_limit=12)).pool_size == 2  # (12 - 5 - 1 - 2) / 2
        r = refused(replace(LAPTOP, role_connection_limit=11))
        assert r.binding_input == "role_connection_limit"
        assert dict(r.suggestions[-1].changes) == {"role_connection_limit": 12}

    def test_eight_workers_a_pod_are_refused_in_favour_of_fewer(self) -> None:
        r = refused(replace(SMALL_POD, cpu_limit_millicores=8000, memory_limit_bytes=None))
        assert r.binding_input == "cpu_limit_millicores"
        assert dict(r.suggestions[0].changes) == {"workers_per_pod_ceiling": 5}  # 76 / 3 = 25 workers on 5 pods


class TestDemand:
    @pytest.mark.parametrize(
        ("arrival_rate", "hold_time_ms", "busy", "pool_size"),
        [
            (140, 25, 3.5, 5),  # 3.5 / 0.7
            (98, 50, 4.9, 7),  # 4.9 / 0.7 is 7, and a rounding error must not make it 8
            (141, 25, 3.525, 6),
            (1, 1, 0.001, 2),
            (0, 10, 0, 2),
            (1000, 100, 100, 10),
        ],
    )
    def test_is_little_s_law_at_seventy_percent_within_two_and_ten(
        self, arrival_rate: float, hold_time_ms: float, busy: float, pool_size: int
    ) -> None:
        p = accepted(replace(LAPTOP, arrival_rate_per_worker_per_second=arrival_rate, hold_time_ms=hold_time_ms))
        assert p.arithmetic.busy_connections_per_worker == pytest.approx(busy)
        assert p.pool_size == p.arithmetic.demand_connections_per_pool == pool_size

    def test_beyond_the_budget_s_share_the_share_is_the_pool(self) -> None:
        p = accepted(replace(LAPTOP, max_connections=17))
        assert (p.arithmetic.cap_connections_per_pool, p.pool_size) == (3, 3)

    def test_a_second_engine_halves_the_share(self) -> None:
        p = accepted(replace(LAPTOP, max_connections=23, engines_per_worker=2))
        assert (p.arithmetic.budget_connections, p.pool_size, p.pool_connections) == (12, 3, 12)


class TestWorkers:
    @pytest.mark.parametrize(("cpu_limit_millicores", "workers"), [(1, 1), (999, 1), (1000, 1), (1999, 1), (2000, 2), (4500, 4)])
    def test_are_whole_cores_and_at_least_one(self, cpu_limit_millicores: int, workers: int) -> None:
        assert accepted(replace(LAPTOP, cpu_limit_millicores=cpu_limit_millicores)).workers_per_pod == workers

    @pytest.mark.parametrize(("memory_mib", "workers"), [(289, 1), (290, 2), (379, 2), (380, 3), (4096, 4)])
    def test_are_no_more_than_the_memory_holds(self, memory_mib: int, workers: int) -> None:
        p = accepted(replace(LAPTOP, cpu_limit_millicores=4000, memory_limit_bytes=memory_mib * MIB))
        assert p.workers_per_pod == workers

    def test_are_no_more_than_the_ceiling(self) -> None:
        assert accepted(replace(LAPTOP, cpu_limit_millicores=4000, workers_per_pod_ceiling=3)).workers_per_pod == 3


class TestWaiters:
    @pytest.mark.parametrize(
        ("wait_budget_ms", "hold_time_ms", "waiters"), [(200, 10, 100), (250, 20, 62), (200, 5000, 1), (0, 10, 1), (200, 0.01, 1000)]
    )
    def test_are_those_who_are_served_within_the_wait_budget(self, wait_budget_ms: float, hold_time_ms: float, waiters: int) -> None:
        assert accepted(replace(LAPTOP, wait_budget_ms=wait_budget_ms, hold_time_ms=hold_time_ms)).waiters_per_worker == waiters


class TestWarnings:
    def test_pools_beyond_ten_a_database_core_are_named_with_the_numbers(self) -> None:
        assert accepted(replace(SMALL_POD, database_cores=4)).warnings == ()  # 25 + 15 = 40
        (warning,) = accepted(replace(SMALL_POD, database_cores=3)).warnings
        assert "40 connections" in warning
        assert "3 database cores" in warning

    def test_a_limit_too_small_for_one_worker_is_named_with_what_it_needs(self) -> None:
        assert accepted(replace(SMALL_POD, memory_limit_bytes=200 * MIB)).warnings == ()  # 110 + 90
        (warning,) = accepted(replace(SMALL_POD, memory_limit_bytes=128 * MIB)).warnings
        assert "200 MiB" in warning
        assert "128 MiB" in warning

    def test_a_load_that_the_pool_cannot_carry_is_named(self) -> None:
        (warning,) = accepted(replace(LAPTOP, arrival_rate_per_worker_per_second=300, hold_time_ms=50)).warnings
        assert "15 connections busy" in warning


class TestRefusal:
    @pytest.mark.parametrize(
        ("binding_input", "changes"),
        [
            ("cpu_limit_millicores", {"cpu_limit_millicores": 64_000}),
            ("workers_per_pod_ceiling", {"cpu_limit_millicores": 64_000, "workers_per_pod_ceiling": 40}),
            ("replica_ceiling", {"replica_ceiling": 30, "terminating_pods": 30}),
            ("surge_pods", {"surge_pods": 30}),
            ("terminating_pods", {"terminating_pods": 30}),
            ("job_replica_ceiling", {"job_replica_ceiling": 20}),
            ("connections_per_job_worker", {"connections_per_job_worker": 95}),
            (
                "engines_per_worker",
                {"engines_per_worker": 10, "workers_per_pod_ceiling": 1, "replica_ceiling": 2, "terminating_pods": 2, "surge_pods": 1},
            ),
            ("direct_connections_per_worker", {"direct_connections_per_worker": 100, "workers_per_pod_ceiling": 1}),
            ("migration_connections", {"migration_connections": 90}),
            ("other_client_connections", {"other_client_connections": 90}),
            ("superuser_reserved_connections", {"superuser_reserved_connections": 95}),
            ("reserved_connections", {"reserved_connections": 90}),
            ("max_connections", {"max_connections": 5}),
        ],
    )
    def test_names_the_input_that_takes_the_most(self, binding_input: str, changes: dict[str, Any]) -> None:
        assert refused(replace(LAPTOP, **changes)).binding_input == binding_input

    def test_never_suggests_a_higher_ceiling_to_make_room_for_many_terminating_pods(self) -> None:
        r = refused(replace(LAPTOP, terminating_pods=30))
        assert [dict(s.changes) for s in r.suggestions] == [{"max_connections": 195}]

    def test_beyond_what_postgresql_accepts_advises_pgbouncer_alone(self) -> None:
        r = refused(replace(LAPTOP, replica_ceiling=10_000, job_replica_ceiling=10_000, connections_per_job_worker=1000))
        assert r.suggestions == ()
        assert "does not help: 10000001 connections must go around it" in (r.pgbouncer or "")


class TestExplanation:
    def test_of_a_plan_shows_the_arithmetic_in_columns_then_the_warnings(self) -> None:
        lines = explain(accepted(replace(SMALL_POD, database_cores=3))).splitlines()
        assert "peak pods              5  = 2 replicas + 1 surge + 2 terminating" in lines
        assert "usable connections    97  = 100 max - 3 superuser_reserved - 0 reserved" in lines
        assert "= budget for pools    71" in lines
        assert "pool size              5  = min(14, 5); max_overflow 0" in lines
        assert "peak connections      51  of 97 usable" in lines
        assert lines[-1].startswith("warning: all pools together are 40 connections")

    def test_of_a_refusal_shows_what_binds_and_every_value_to_set(self) -> None:
        text = explain(refused(replace(TWENTY_PODS, max_connections=100)))
        assert "REFUSED: a pool needs at least 2 connections and its share is 0." in text
        assert "What binds: replica_ceiling = 20" in text
        assert "  replica_ceiling=10, terminating_pods=10  ->  a lower ceiling, instead of 20" in text
        assert "  max_connections=159                      ->  at least; 294 for pools of 5" in text
        assert "  PgBouncer in transaction mode: max_client_conn >= 270" in text

    def test_fits_a_terminal(self) -> None:
        profile = replace(SMALL_POD, arrival_rate_per_worker_per_second=140, hold_time_ms=12.5, workers_per_pod_ceiling=1)
        for decision in (plan(profile), plan(TWENTY_PODS), plan(replace(TWENTY_PODS, max_connections=100))):
            assert max(len(line) for line in explain(decision).splitlines()) <= 100


class TestInputs:
    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("cpu_limit_millicores", 0, "from 1 to 1000000"),
            ("memory_limit_bytes", 0, "from 1 to"),
            ("workers_per_pod_ceiling", 0, "from 1 to 1000"),
            ("replica_ceiling", 0, "from 1 to 10000"),
            ("surge_pods", -0.5, "from 0 to 10000"),
            ("surge_pods", float("nan"), "from 0 to 10000"),
            ("terminating_pods", -1, "from 0 to 10000"),
            ("connections_per_job_worker", 0, "from 1 to 1000"),
            ("max_connections", 262_144, "from 1 to 262143"),
            ("engines_per_worker", 0, "from 1 to 10"),
            ("arrival_rate_per_worker_per_second", float("inf"), "from 0 to 1000000"),
            ("hold_time_ms", 0, "from 0.01 to 600000"),
            ("database_cores", 0, "from 1 to 10000"),
        ],
    )
    def test_out_of_range_are_refused_with_the_field_and_what_is_allowed(self, field: str, value: Any, allowed: str) -> None:
        with pytest.raises(ValueError, match=f"^{field} is {value}: give a number {allowed}"):
            replace(LAPTOP, **{field: value})

    def test_half_of_a_pgbouncer_is_refused(self) -> None:
        with pytest.raises(ValueError, match="both, or neither"):
            replace(LAPTOP, pgbouncer_max_client_connections=100)
        with pytest.raises(ValueError, match="both, or neither"):
            replace(LAPTOP, pgbouncer_server_connections=10)

    def test_reservations_that_leave_nothing_are_refused_as_postgresql_does(self) -> None:
        with pytest.raises(ValueError, match=r"superuser_reserved_connections \+ reserved_connections is 100: .*max_connections \(100\)"):
            replace(LAPTOP, superuser_reserved_connections=3, reserved_connections=97)


few = st.integers(0, 4)
pods = st.one_of(st.integers(0, 3), st.integers(0, 60))


@st.composite
def capacity_inputs(draw: st.DrawFn) -> Inputs:
    """Deployments of all sizes, on servers that are sometimes too small and sometimes ample."""
    return Inputs(
        cpu_limit_millicores=draw(st.integers(1, 9000)),
        memory_limit_bytes=draw(st.none() | st.integers(1, 4096).map(lambda mib: mib * MIB)),
        workers_per_pod_ceiling=draw(st.none() | st.integers(1, 8)),
        replica_ceiling=1 + draw(pods),
        surge_pods=draw(st.one_of(few, st.floats(0, 20))),
        terminating_pods=draw(pods),
        job_replica_ceiling=draw(few),
        job_surge_pods=draw(st.one_of(few, st.floats(0, 2))),
        job_terminating_pods=draw(few),
        connections_per_job_worker=draw(st.integers(1, 10)),
        max_connections=draw(st.one_of(st.integers(20, 200), st.integers(20, 5000))),
        role_connection_limit=draw(st.none() | st.integers(0, 300)),
        pgbouncer_max_client_connections=clients if (clients := draw(st.none() | st.integers(1, 2000))) else None,
        pgbouncer_server_connections=draw(st.integers(1, 100)) if clients else 0,
        superuser_reserved_connections=draw(few),
        reserved_connections=draw(few),
        migration_connections=draw(few),
        other_client_connections=draw(st.integers(0, 30)),
        engines_per_worker=draw(st.integers(1, 3)),
        direct_connections_per_worker=draw(few),
        arrival_rate_per_worker_per_second=draw(st.none() | st.floats(0, 1_000_000)),
        hold_time_ms=draw(st.floats(0.01, 600_000)),
        wait_budget_ms=draw(st.floats(0, 60_000)),
        database_cores=draw(st.none() | st.integers(1, 64)),
    )


law = settings(deadline=None, max_examples=200)


def peak_workers(inputs: Inputs) -> int:
    workers = max(1, inputs.cpu_limit_millicores // 1000)
    if inputs.memory_limit_bytes is not None:
        workers = min(workers, max(1, (inputs.memory_limit_bytes // MIB - 110) // 90))
    workers = min(workers, inputs.workers_per_pod_ceiling or workers)
    return workers * (inputs.replica_ceiling + ceil(inputs.surge_pods) + inputs.terminating_pods)


def usable_connections(inputs: Inputs) -> int:
    return inputs.max_connections - inputs.superuser_reserved_connections - inputs.reserved_connections


def left_for_the_api(inputs: Inputs) -> int:
    """What the server leaves to the api workers, or to the PgBouncer before it."""
    job_pods = inputs.job_replica_ceiling + ceil(inputs.job_surge_pods) + inputs.job_terminating_pods
    ours = usable_connections(inputs) - inputs.other_client_connections
    if inputs.role_connection_limit is not None:
        ours = min(ours, inputs.role_connection_limit)
    return ours - job_pods * inputs.connections_per_job_worker - inputs.migration_connections


def budget_connections(inputs: Inputs) -> int:
    clients = inputs.pgbouncer_max_client_connections
    outside = peak_workers(inputs) * inputs.direct_connections_per_worker
    return (left_for_the_api(inputs) if clients is None else clients) - outside


def fits(inputs: Inputs) -> bool:
    share = budget_connections(inputs) // (peak_workers(inputs) * inputs.engines_per_worker)
    return share >= 2 and inputs.pgbouncer_server_connections <= max(0, left_for_the_api(inputs))


def pool_size_or_zero(inputs: Inputs) -> int:
    decision = plan(inputs)
    return decision.pool_size if isinstance(decision, Plan) else 0


def asking_one_less(suggestion: Suggestion, inputs: Inputs) -> Inputs:
    field, value = suggestion.changes[0]
    match field:
        case "max_connections" | "role_connection_limit" | "pgbouncer_max_client_connections":
            return replace(suggestion.applied_to(inputs), **{field: value - 1})
        case "replica_ceiling":
            more = {"replica_ceiling": value + 1, "terminating_pods": min(value + 1, inputs.terminating_pods)}
            return replace(suggestion.applied_to(inputs), **more)
        case _:
            return replace(suggestion.applied_to(inputs), **{field: value + 1})


class TestLaws:
    @law
    @given(capacity_inputs())
    def test_a_deployment_is_refused_exactly_when_a_pool_s_share_is_below_two_or_pgbouncer_may_open_too_many(self, inputs: Inputs) -> None:
        decision = plan(inputs)
        share = budget_connections(inputs) // (peak_workers(inputs) * inputs.engines_per_worker)
        assert decision.arithmetic.cap_connections_per_pool == share
        assert isinstance(decision, Plan) == fits(inputs)

    @law
    @given(capacity_inputs())
    def test_the_planned_peak_never_passes_what_postgresql_and_pgbouncer_leave(self, inputs: Inputs) -> None:
        if isinstance(p := plan(inputs), Plan):
            pools = peak_workers(inputs) * inputs.engines_per_worker * (p.pool_size + p.max_overflow)
            assert pools == p.pool_connections <= budget_connections(inputs)
            assert p.role_connections + inputs.other_client_connections == p.peak_connections <= usable_connections(inputs)
            assert inputs.role_connection_limit is None or p.role_connections <= inputs.role_connection_limit

    @law
    @given(capacity_inputs())
    def test_every_setting_stays_within_its_bounds(self, inputs: Inputs) -> None:
        if isinstance(p := plan(inputs), Plan):
            assert 1 <= p.workers_per_pod <= max(1, inputs.cpu_limit_millicores // 1000)
            assert 2 <= p.pool_size <= 10
            assert p.max_overflow == 0
            assert 1 <= p.waiters_per_worker <= 1000
            assert p.password_hashes_per_worker == 1

    @law
    @given(capacity_inputs(), st.integers(0, 1000))
    def test_more_connections_never_give_a_smaller_pool(self, inputs: Inputs, more: int) -> None:
        assert pool_size_or_zero(replace(inputs, max_connections=inputs.max_connections + more)) >= pool_size_or_zero(inputs)

    @law
    @given(capacity_inputs(), st.integers(0, 50))
    def test_more_replicas_never_give_a_larger_pool(self, inputs: Inputs, more: int) -> None:
        assert pool_size_or_zero(replace(inputs, replica_ceiling=inputs.replica_ceiling + more)) <= pool_size_or_zero(inputs)

    @law
    @given(capacity_inputs())
    def test_every_suggestion_of_a_refusal_is_accepted_when_taken_and_none_asks_more_than_it_must(self, inputs: Inputs) -> None:
        if isinstance(r := plan(inputs), Refusal):
            assert r.suggestions
            for suggestion in r.suggestions:
                assert isinstance(plan(suggestion.applied_to(inputs)), Plan)
                assert isinstance(plan(asking_one_less(suggestion, inputs)), Refusal)

    @law
    @given(capacity_inputs())
    def test_every_decision_can_be_explained(self, inputs: Inputs) -> None:
        decision = plan(inputs)
        lines = explain(decision).splitlines()
        assert all(line == line.rstrip() for line in lines)
        assert any(f"= floor({decision.arithmetic.budget_connections} / " in line for line in lines)
