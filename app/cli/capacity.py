"""`stockroom capacity`: how many workers and connections fit, and whether the live server agrees."""

import json
from dataclasses import asdict
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.core.config import Settings, get_settings

if TYPE_CHECKING:
    from app.capacity.model import Inputs, Plan, Refusal

capacity = typer.Typer(help="How many workers and connections fit, and whether the live server agrees.", no_args_is_help=True)

_SERVER, _PODS, _LOAD = "The database server", "The pods", "The load"
_CANNOT_TELL = 2


class Format(StrEnum):
    """How a plan is shown."""

    TABLE = "table"
    JSON = "json"
    ENV = "env"
    HELM = "helm"


def _flag(text: str, panel: str) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, show_default=False)


@capacity.command()
def plan(
    *,
    cpu_limit: Annotated[str | None, _flag("CPU limit of an api pod, as Kubernetes writes it: 2, 1500m.", _PODS)] = None,
    memory_limit: Annotated[str | None, _flag("Memory limit of an api pod: 512Mi, 1G.", _PODS)] = None,
    workers_ceiling: Annotated[int | None, _flag("At most so many workers a pod.", _PODS)] = None,
    replica_ceiling: Annotated[int | None, _flag("The most api pods: the autoscaler's maximum.", _PODS)] = None,
    surge_pods: Annotated[float | None, _flag("maxSurge in pods.", _PODS)] = None,
    terminating_pods: Annotated[int | None, _flag("Pods that may still drain beside them; up to the ceiling.", _PODS)] = None,
    job_replica_ceiling: Annotated[int | None, _flag("The most job worker pods.", _PODS)] = None,
    job_surge_pods: Annotated[float | None, _flag("Their maxSurge in pods.", _PODS)] = None,
    job_terminating_pods: Annotated[int | None, _flag("Of them, those that may still end.", _PODS)] = None,
    max_connections: Annotated[int | None, _flag("Its max_connections. Else 100, PostgreSQL's default.", _SERVER)] = None,
    superuser_reserved_connections: Annotated[int | None, _flag("Its setting of that name. Else 3.", _SERVER)] = None,
    reserved_connections: Annotated[int | None, _flag("Its setting of that name. Else 0.", _SERVER)] = None,
    role_connection_limit: Annotated[int | None, _flag("The role's CONNECTION LIMIT. Else none.", _SERVER)] = None,
    pgbouncer_max_client_connections: Annotated[int | None, _flag("PgBouncer's max_client_conn, all instances.", _SERVER)] = None,
    pgbouncer_server_connections: Annotated[int | None, _flag("What they may open to the server.", _SERVER)] = None,
    other_connections: Annotated[int | None, _flag("Connections of everybody else.", _SERVER)] = None,
    database_cores: Annotated[int | None, _flag("Its cores, for a warning.", _SERVER)] = None,
    arrival_rate: Annotated[float | None, _flag("Requests a second that reach one worker.", _LOAD)] = None,
    hold_time_ms: Annotated[float | None, _flag("How long a request holds a connection.", _LOAD)] = None,
    wait_budget_ms: Annotated[float | None, _flag("How long one should wait for it at most.", _LOAD)] = None,
    output_format: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.TABLE,
) -> None:
    """Show what would run with these limits, and the arithmetic. Exits with 1 when it does not fit.

    Asks no server; what no flag gives is taken from the environment.
    """
    from app.capacity.limits import cpu_limit_millicores, memory_limit_bytes
    from app.capacity.model import Plan
    from app.capacity.model import plan as decide
    from app.cli.failures import fail
    from app.core.sizing import ServerLimits, inputs_from

    settings = get_settings()
    given: dict[str, Any] = {
        "workers_per_pod_ceiling": workers_ceiling,
        "replica_ceiling": replica_ceiling,
        "surge_pods": surge_pods,
        "terminating_pods": terminating_pods,
        "job_replica_ceiling": job_replica_ceiling,
        "job_surge_pods": job_surge_pods,
        "job_terminating_pods": job_terminating_pods,
        "max_connections": max_connections,
        "superuser_reserved_connections": superuser_reserved_connections,
        "reserved_connections": reserved_connections,
        "role_connection_limit": role_connection_limit,
        "pgbouncer_max_client_connections": pgbouncer_max_client_connections,
        "pgbouncer_server_connections": pgbouncer_server_connections,
        "other_client_connections": other_connections,
        "database_cores": database_cores,
        "arrival_rate_per_worker_per_second": arrival_rate,
        "hold_time_ms": hold_time_ms,
        "wait_budget_ms": wait_budget_ms,
    }
    try:
        limits = {
            "cpu_limit_millicores": cpu_limit_millicores(
                cpu_limit or settings.cpu_limit, name="--cpu-limit" if cpu_limit else "APP_CPU_LIMIT"
            ),
            "memory_limit_bytes": memory_limit_bytes(memory_limit),
        }
        given |= {name: limit.value for name, limit in limits.items()}
        decision = decide(inputs_from(settings, ServerLimits(), **{name: value for name, value in given.items() if value is not None}))
    except ValueError as error:
        fail(str(error))
    # What is written into a file of settings or values shall be such, or nothing.
    fits = isinstance(decision, Plan)
    typer.echo(
        _shown(decision, output_format, {name for name, limit in limits.items() if limit.is_set}),
        err=not fits and output_format in (Format.ENV, Format.HELM),
    )
    if not fits:
        raise typer.Exit(1)


@capacity.command()
def check() -> None:
    """Hold the plan against the live server and this machine's limits: 0 when it fits, 1 when it does not, 2 when that cannot be told."""
    import psycopg

    from app.capacity.explaining import explain
    from app.capacity.limits import cpu_limit_millicores, memory_limit_bytes
    from app.capacity.model import Plan
    from app.capacity.model import plan as decide
    from app.cli.serving import with_running_database
    from app.core.config import SettingsError
    from app.core.sizing import CapacityError, connected_now, inputs_from, read_timeout_complaint, server_limits

    try:
        settings = with_running_database(get_settings())
        url = settings.around_pgbouncer().require_database_url()
        decision = decide(inputs_from(settings, server_limits(url)))
        ours, others = connected_now(url)
        unlimited = read_timeout_complaint(settings)
    except (psycopg.Error, CapacityError, SettingsError) as error:
        typer.echo(f"cannot tell: {str(error).strip()}", err=True)
        raise typer.Exit(_CANNOT_TELL) from None
    typer.echo(f"CPU limit from {cpu_limit_millicores(settings.cpu_limit).source}, memory limit from {memory_limit_bytes().source}")
    typer.echo(explain(decision))
    if unlimited:
        typer.echo(f"warning: {unlimited}")
    typer.echo(f"connected now: {ours} of ours, {others} of others")
    if not isinstance(decision, Plan):
        raise typer.Exit(1)
    if complaints := _complaints(decision, ours, others):
        typer.echo("\n".join(complaints), err=True)
        raise typer.Exit(1)
    typer.echo("it fits")


def _complaints(plan: "Plan", ours: int, others: int) -> list[str]:
    complaints = []
    if ours > plan.role_connections:
        complaints.append(
            f"does not fit: {ours} connections of this role are open and the plan's peak is {plan.role_connections}:"
            " something runs with other settings, or shares the role"
        )
    if others > plan.inputs.other_client_connections:
        complaints.append(
            f"does not fit: {others} connections of others are open and the plan leaves {plan.inputs.other_client_connections}:"
            f" set APP_OTHER_CONNECTIONS={others} or more"
        )
    return complaints


def _shown(decision: "Plan | Refusal", output_format: Format, limits_set: set[str]) -> str:
    from app.capacity.explaining import explain
    from app.capacity.model import Plan

    if output_format is Format.JSON:
        derived = {name: getattr(decision, name) for name in _DERIVED if isinstance(decision, Plan)}
        return json.dumps({"fits": isinstance(decision, Plan), **asdict(decision), **derived}, indent=2)
    if output_format is Format.TABLE or not isinstance(decision, Plan):
        return explain(decision)
    lines = [f"# {decision.workers_per_pod} workers a pod, pools of {decision.pool_size}, at most {decision.peak_connections} connections"]
    lines += [f"# warning: {warning}" for warning in decision.warnings]
    if output_format is Format.HELM:
        return "\n".join([*lines, *_helm_values(decision.inputs, limits_set)])
    # CPU and memory limits are the pod's own: written down here, they would go stale when somebody changes the pod.
    settings = {_SETTINGS.get(name, name): value for name, value in _given(decision.inputs)}
    # One setting stands for the replicas, the surge and those that still end.
    settings["job_worker_pods"] = decision.arithmetic.peak_job_pods
    lines += [f"APP_{name.upper()}={_number(value)}" for name, value in settings.items() if name in Settings.model_fields]
    # No setting: what the plain manifests' `stockroom migrate --connection-limit` takes.
    return "\n".join([*lines, f"ROLE_CONNECTION_LIMIT={decision.role_connections}"])


_DERIVED = ("standing_waiters_per_worker", "password_cores_per_worker")

_SETTINGS = {
    "workers_per_pod_ceiling": "workers_ceiling",
    "other_client_connections": "other_connections",
    "job_replica_ceiling": "job_worker_pods",
}

_SAID_ELSEWHERE = {
    "cpu_limit_millicores", "memory_limit_bytes", "replica_ceiling", "surge_pods", "job_replica_ceiling", "job_surge_pods", "job_terminating_pods",
    "connections_per_job_worker", "migration_connections", "engines_per_worker", "direct_connections_per_worker",
}  # fmt: skip
"""What the chart's `capacity` does not take: it derives the pods from the values that make them, and the rest are facts of the code."""


def _helm_values(inputs: "Inputs", limits_set: set[str]) -> list[str]:
    # What this machine happens to have is no limit that a pod should get.
    limits = [f"    cpu: {inputs.cpu_limit_millicores}m"] if "cpu_limit_millicores" in limits_set else []
    limits += [f"    memory: {inputs.memory_limit_bytes}"] if "memory_limit_bytes" in limits_set else []
    # The chart's job workers are stopped before new ones start: what may be there besides are those that end.
    ending_jobs = ceil(inputs.job_surge_pods) + inputs.job_terminating_pods
    given = [(name, value) for name, value in _given(inputs) if name not in _SAID_ELSEWHERE]
    return [
        f"replicas: {inputs.replica_ceiling} # or autoscaling.maxReplicas",
        "strategy:",
        f"  maxSurge: {ceil(inputs.surge_pods)}",
        f"  maxUnavailable: {0 if inputs.surge_pods else 1}",
        *(["resources:", "  limits:", *limits] if limits else []),
        "worker:",
        f"  replicas: {inputs.job_replica_ceiling}",
        "capacity:",
        *(f"  {_camel_case(name)}: {_number(value)}" for name, value in given),
        f"  jobTerminatingPods: {ending_jobs}",
    ]


def _given(inputs: "Inputs") -> list[tuple[str, float]]:
    return [(name, value) for name, value in asdict(inputs).items() if value is not None]


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
