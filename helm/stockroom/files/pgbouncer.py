"""Writes PgBouncer's configuration from the database's URL, so that no password stands in a ConfigMap, and any image with PgBouncer will do."""

import os
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict


def quoted(value: object, quote: str) -> str:
    """As PgBouncer reads it: a quote within is doubled."""
    return quote + str(value).replace(quote, 2 * quote) + quote


folder = Path(os.environ["PGBOUNCER_FOLDER"])
url: dict[str, Any] = conninfo_to_dict(os.environ["APP_DATABASE_DIRECT_URL"])
timeout_ms = round(float(os.environ.get("APP_STATEMENT_TIMEOUT_SECONDS", "5")) * 1000)
server = {
    "host": url["host"],
    "port": url.get("port", "5432"),
    "connect_query": f"SET statement_timeout = {timeout_ms}",
}
# Beside the files, because PgBouncer reads relative names from where it was started.
options: dict[str, object] = {
    "listen_addr": "*",
    "listen_port": "6432",
    "unix_socket_dir": "",
    "auth_type": "scram-sha-256",
    "auth_file": folder / "userlist.txt",
    "pool_mode": "transaction",
    "max_client_conn": os.environ["MAX_CLIENT_CONNECTIONS"],
    "default_pool_size": os.environ["POOL_SIZE"],
    "query_wait_timeout": "2",
    "server_tls_sslmode": url.get("sslmode", "prefer"),
}
if "sslrootcert" in url:
    options["server_tls_ca_file"] = url["sslrootcert"]
# Whatever database a client names: names with a hyphen could not be written here, PgBouncer 1.18 does not take them quoted.
lines = ["[databases]", "* = " + " ".join(f"{key}={quoted(value, chr(39))}" for key, value in server.items())]
lines += ["[pgbouncer]", *(f"{key} = {value}" for key, value in options.items())]
(folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
(folder / "userlist.txt").write_text(f"{quoted(url['user'], chr(34))} {quoted(url.get('password', ''), chr(34))}\n")
