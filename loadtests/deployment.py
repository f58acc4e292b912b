"""What is tested: where it answers, who may use it, and where its server side can be seen."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.database import libpq_url


@dataclass(frozen=True, slots=True)
class Sizing:
    """How many workers a pod has, and how many connections each of their pools."""

    workers: int
    pool: int

    def __str__(self) -> str:
        return f"{self.workers} x {self.pool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment under test.

    Args:
        host: `http://name:port` or `https://…`.
        username: the email of a user who may write products, stock and reservations.
        password: the user's.
        metrics_url: where `/metrics` is.
        database_url: of PostgreSQL; None when it cannot be asked.
        postmaster: PostgreSQL's first process where it runs on this machine.
        description: what runs where, for the report.
    """

    host: str
    username: str
    password: str
    metrics_url: str
    database_url: str | None = None
    postmaster: int | None = None
    description: str = ""


def from_environment(
    host: str, username: str, password_variable: str, metrics_url: str | None, database_variable: str, environment: Mapping[str, str]
) -> Deployment:
    """A deployment elsewhere, with secrets from variables.

    Raises:
        KeyError: there is no such variable for the password.
    """
    return Deployment(
        host=host.rstrip("/"),
        username=username,
        password=environment[password_variable],
        metrics_url=metrics_url or f"{host.rstrip('/')}/metrics",
        database_url=libpq_url(environment.get(database_variable)),
        description=f"a deployment at {host}",
    )
