"""Settings: read once at start from `APP_*` variables and `.env`, checked as a whole, and described where they are declared.

`docs/settings.md` is made from this class (`make docs`), and a test holds it current.
"""

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.capacity.limits import cpu_limit_millicores

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
# RFC 6454 section 6.2, as browsers send it: lower case, no path, not even a slash, and no port that is the scheme's own.
_ORIGIN = re.compile(r"(?!http://.*:80$|https://.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_PASSWORD = re.compile("[^\x00\ud800-\udfff]{12,256}")
_DATABASE_URL_FORM = "must look like postgresql://user:password@host:5432/name; in user and password write @ as %40, / as %2F, % as %25"
_MAKE_A_KEY = "make one with `openssl ecparam -name prime256v1 -genkey -noout`"


def _split_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


class SettingsError(Exception):
    """The settings cannot be used. The text names every variable that is wrong, and the fix; values are never shown."""


class Settings(BaseSettings):
    """What can be set, each from the environment variable `APP_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="APP_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    environment: Literal["development", "production"] = "development"
    """`production` refuses what is only fit for a laptop: missing or weak keys, debug, `*` CORS with credentials."""

    debug: bool = False
    """Shows more in the log. Never allowed in production."""

    database_url: SecretStr | None = None
    """Where PostgreSQL (15 or later) is: `postgresql://user:password@host:5432/name`.
    Unset, commands use the database that `stockroom up` runs in the data folder."""

    database_direct_url: SecretStr | None = None
    """Where PostgreSQL itself is. Set it when APP_DATABASE_URL leads to a PgBouncer in transaction mode.
    What needs a session of its own goes there: migrations, jobs, imports, and the capacity plan, which asks for the server's limits."""

    prepared_statements: bool | None = None
    """Whether statements are prepared on the server. Unset: yes, but not through a PgBouncer, which can since 1.22
    and with `max_prepared_statements` above 0."""

    data_folder: Path = Path(".stockroom")
    """Where `stockroom up` keeps its embedded PostgreSQL, its keys and its state."""

    host: str = "127.0.0.1"
    """The address to listen on. In a container: `0.0.0.0`."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """The port to listen on."""

    trusted_proxies: CommaSeparated = ("127.0.0.1",)
    """Addresses or networks, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    Behind a load balancer set its network, or logins are throttled as if they all came from one address.
    Never everybody (`*`): whoever is believed may say to be anybody."""

    cors_origins: CommaSeparated = ()
    """Origins such as `https://shop.example`, separated by commas, whose pages may call the API from a browser.
    `*` for all, but never together with credentials."""

    cors_credentials: bool = False
    """Whether browsers may send cookies or HTTP authentication along. Tokens in `Authorization` do not need it."""

    signing_keys: SecretStr | None = None
    """One or more P-256 private keys in PEM. The first signs access tokens (ES256), all are accepted. `stockroom up` makes one. Required in production.
    To rotate: add the new key at the end everywhere, then move it to the front everywhere, and drop the old one when its last token has expired."""

    signing_key_expires_on: date | None = None
    """The day by which the first of them is to be replaced, as `2027-06-30`. Nothing stops then: a metric tells it, and an alert comes two weeks before."""

    token_issuer: str = "stockroom"
    """The `iss` of access tokens."""

    token_audience: str = "stockroom"
    """The `aud` of access tokens."""

    token_lifetime_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3600
    """How long an access token is valid. A disabled user's tokens stop working within 5 seconds whatever is set here."""

    admin_email: str = "admin@example.com"
    """The first administrator that `stockroom up` makes when there is no user yet."""

    admin_password: SecretStr | None = None
    """The first administrator's password, 12 to 256 characters. Unset, a random one is made and shown once."""

    cpu_limit: str | None = None
    """The CPU limit as Kubernetes writes it (`2`, `1500m`). Unset, it is read from the cgroup, then from the CPU affinity."""

    replica_ceiling: Annotated[int, Field(ge=1, le=10_000)] = 1
    """The most API pods there can be: the autoscaler's maximum, or the replica count. Connection pools are sized for it."""

    surge_pods: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How many pods a roll-out may start above the ceiling (`maxSurge`, rounded up)."""

    terminating_pods: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How many pods may still be draining beside the counted ones, because Kubernetes does not count them. During a roll-out: up to the replica ceiling."""

    job_worker_pods: Annotated[int, Field(ge=0, le=1000)] = 1
    """The most `stockroom worker` processes there can be, roll-outs included."""

    other_connections: Annotated[int, Field(ge=0, le=100_000)] = 5
    """Connections to leave for everybody else: psql at 3 a.m., exporters, backups."""

    workers_ceiling: Annotated[int | None, Field(ge=1, le=1000)] = None
    """The most workers a pod runs, whatever its CPU and memory allow. Set it where there is no CPU limit to go by."""

    pgbouncer_max_client_connections: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Behind PgBouncer: `max_client_conn`, of all instances together."""

    pgbouncer_server_connections: Annotated[int, Field(ge=0, le=262_143)] = 0
    """Behind PgBouncer: what all instances together may open to the server, `default_pool_size` times their number."""

    database_cores: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Cores of the database server. Known, the plan warns when all pools together are more than it works well with."""

    arrival_rate_per_worker_per_second: Annotated[float | None, Field(ge=0, le=1_000_000)] = None
    """Requests a second that reach one worker, at the peak. Known, pools are sized for it; unset, each has 5 connections if they fit."""

    hold_time_ms: Annotated[float, Field(ge=0.01, le=600_000)] = 10
    """How long a request holds its database connection, on average."""

    wait_budget_ms: Annotated[float, Field(ge=0, le=60_000)] = 200
    """How long a request should wait for a connection at most. With the hold time it decides how many may wait before more are refused; for longer than a
    second three tenths of these."""

    pool_timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 2.0
    """How long a request waits for a database connection before it is refused with 503. Longer turns overload into a hang."""

    request_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long a request may be worked on, from when it has arrived until its answer is made; then it is ended, on the database too, with 504."""

    statement_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 5.0
    """How long one SQL statement of a request may run before PostgreSQL ends it."""

    lock_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How long one SQL statement of a request may wait for a lock."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    """The largest request body, on any route."""

    head_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long a client may take for a request line and headers, from their first byte, and a new connection for its first byte."""

    body_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """How long a client may take for a request body, from the end of the headers to its last byte."""

    send_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """How long a client may take nothing of an answer that waits for it."""

    idempotency_lifetime_hours: Annotated[int, Field(ge=1, le=24 * 30)] = 24
    """How long the answer to an Idempotency-Key is kept for replay."""

    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 5.0
    """After SIGTERM or `stockroom drain`: how long the service still answers, not ready and with `Connection: close`,
    so that load balancers and clients move away before the listeners close."""

    shutdown_seconds: Annotated[float, Field(gt=0, le=300)] = 15.0
    """After draining: how long requests in flight may take to end."""

    worker_metrics_port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """The port on which `stockroom worker` serves `/metrics`, at APP_HOST. Unset, it serves none."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """`json` for machines, `console` for people; `auto` decides by whether the output is a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""

    slow_request_seconds: Annotated[float, Field(gt=0, le=300)] = 1.0
    """A request that takes longer has `slow` in its line of the log, which is then a warning."""

    slow_query_seconds: Annotated[float, Field(gt=0, le=300)] = 0.5
    """An SQL statement that takes longer has a line of its own in the log, with the route and its text."""

    tracing: bool = False
    """Sends traces by OTLP over HTTP; needs the extra `stockroom[otel]`. Where to, and which, is for OpenTelemetry's own variables,
    such as `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER`."""

    @field_validator("debug")
    @classmethod
    def _no_debug_in_production(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("environment") == "production":
            raise PydanticCustomError("debug", "must be off in production; unset it")
        return value

    @field_validator("database_direct_url")
    @classmethod
    def _another_postgresql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_database_url(value.get_secret_value()):
            raise PydanticCustomError("url", "{form}", {"form": _DATABASE_URL_FORM})
        return value

    @field_validator("pgbouncer_max_client_connections")
    @classmethod
    def _with_the_way_around_pgbouncer(cls, value: int | None, info: ValidationInfo) -> int | None:
        # Without a database there is nothing to go around: `stockroom capacity plan` asks no server.
        if value is not None and info.data.get("database_url") is not None and info.data.get("database_direct_url", value) is None:
            raise PydanticCustomError(
                "pgbouncer", "needs APP_DATABASE_DIRECT_URL too: not all that Stockroom does can go through PgBouncer"
            )
        return value

    @field_validator("database_url")
    @classmethod
    def _a_postgresql_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            if info.data.get("environment") == "production":
                raise PydanticCustomError("missing", "is required in production; set it to postgresql://user:password@host:5432/name")
        elif not _is_database_url(value.get_secret_value()):
            raise PydanticCustomError("url", "{form}", {"form": _DATABASE_URL_FORM})
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_as_browsers_send_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, origin in enumerate(value, start=1):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "origin",
                    "entry {number} would never match: write scheme and host, and the port unless it is the usual one, in lower case, without a path "
                    "or a slash at the end, as in https://shop.example",
                    {"number": number},
                )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            try:
                ip_network(entry, strict=False)
            except ValueError:
                raise PydanticCustomError(
                    "network", "holds `{entry}`, which is no address or network such as 10.0.0.7 or 10.0.0.0/8", {"entry": entry[:80]}
                ) from None
        return value

    @field_validator("cors_credentials")
    @classmethod
    def _no_wildcard_with_credentials(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "*" in info.data.get("cors_origins", ()):
            raise PydanticCustomError(
                "cors", "cannot be on while APP_CORS_ORIGINS is `*`, which would let every site act as your users; name the origins"
            )
        return value

    @field_validator("signing_keys")
    @classmethod
    def _p256_keys(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            try:
                parse_signing_keys(value.get_secret_value())
            except ValueError as error:
                raise PydanticCustomError("key", "{reason}", {"reason": str(error)}) from None
        elif info.data.get("environment") == "production":
            raise PydanticCustomError("missing", "is required in production; {make}", {"make": _MAKE_A_KEY})
        return value

    @field_validator("admin_password")
    @classmethod
    def _a_long_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _PASSWORD.fullmatch(value.get_secret_value()):
            raise PydanticCustomError("password", "must have 12 to 256 characters, in UTF-8 and without NUL")
        return value

    @field_validator("cpu_limit")
    @classmethod
    def _a_quantity(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                cpu_limit_millicores(value)
            except ValueError:
                raise PydanticCustomError(
                    "quantity", "must be cores as Kubernetes writes them, above zero: `2`, `0.5` or `1500m`"
                ) from None
        return value

    @field_validator("tracing")
    @classmethod
    def _with_what_it_needs(cls, value: bool) -> bool:
        if value and find_spec("opentelemetry.exporter") is None:
            raise PydanticCustomError("tracing", "needs what is not installed; install `stockroom[otel]`")
        return value

    @property
    def is_behind_pgbouncer(self) -> bool:
        """Whether the database's URL leads to a PgBouncer."""
        return self.database_direct_url not in (None, self.database_url)

    @property
    def prepares_statements(self) -> bool:
        """Whether statements are prepared on the server."""
        return not self.is_behind_pgbouncer if self.prepared_statements is None else self.prepared_statements

    def require_database_url(self) -> str:
        """The database's URL.

        Raises:
            SettingsError: it is not set.
        """
        if self.database_url is None:
            raise SettingsError(
                "no database: run `stockroom up` in this folder, or set APP_DATABASE_URL to postgresql://user:password@host:5432/name"
            )
        return self.database_url.get_secret_value()

    def around_pgbouncer(self) -> Self:
        """These settings with PostgreSQL itself as the database; without a PgBouncer the same."""
        if self.database_direct_url is None:
            return self
        return self.model_copy(update={"database_url": self.database_direct_url, "database_direct_url": None})

    def with_database(self, url: str) -> Self:
        """These settings with another database, reached without a PgBouncer.

        Raises:
            SettingsError: the URL cannot be read.
        """
        if not _is_database_url(url):
            raise SettingsError(f"the database's URL {_DATABASE_URL_FORM}")
        return self.model_copy(update={"database_url": SecretStr(url), "database_direct_url": None})


def parse_signing_keys(pem: str) -> list[ECKey]:
    """The private keys in a text of one or more PEM blocks, in order.

    Raises:
        ValueError: no key, or one that is not a P-256 key; says which, never shows it.
    """
    # A variable set through a one-line file or shell often carries the two characters `\n`.
    blocks = [match.group(0) for match in _PEM_BLOCK.finditer(pem.replace("\\n", "\n"))]
    if not blocks:
        raise ValueError(f"holds no PEM private key; {_MAKE_A_KEY}")
    return [_p256_key(number, block) for number, block in enumerate(blocks, start=1)]


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read at the first call.

    Raises:
        SettingsError: with every problem at once.
    """
    try:
        return Settings()
    except UnicodeDecodeError:
        raise SettingsError("these settings cannot be used:\n  .env: is not a text in UTF-8; write it anew") from None
    except ValidationError as error:
        lines = [
            f"  APP_{str(part['loc'][0]).upper()}: {_reason(part['msg'])}" for part in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(["these settings cannot be used:", *lines])) from None


def settings_page() -> str:
    """The reference of all settings as Markdown, as it stands in `docs/settings.md`."""
    return "\n".join(_page_lines()) + "\n"


def _is_database_url(text: str) -> bool:
    # libpq reads it for us and SQLAlchemy for its engine. Their own words would repeat the password.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        conninfo_to_dict(text)
        return make_url(text).get_backend_name() in {"postgresql", "postgres"}
    except (ProgrammingError, ValueError, ArgumentError):
        return False


def _p256_key(number: int, pem: str) -> ECKey:
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError):
        raise ValueError(f"key {number} is not a readable EC private key; {_MAKE_A_KEY}") from None
    if key.curve_name != "P-256" or not key.is_private:
        raise ValueError(f"key {number} is not a P-256 private key, which ES256 needs; {_MAKE_A_KEY}")
    return key


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")[:300]


def _page_lines() -> Iterable[str]:
    yield "# Settings"
    yield ""
    yield "Each is read from an environment variable or from `.env` in the working directory. All problems are reported at once at start."
    yield "This page is made from `app/core/config.py` by `make docs`."
    yield ""
    yield "| variable | default | what it does |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = (
            ""
            if default is None or default == ()
            else ", ".join(default)
            if isinstance(default, tuple)
            else str(default).lower()
            if isinstance(default, bool)
            else str(default)
        )
        yield f"| `APP_{name.upper()}` | {f'`{shown}`' if shown else 'unset'} | {' '.join((field.description or '').split())} |"
