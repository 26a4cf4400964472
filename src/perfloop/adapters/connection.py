"""Sessions on a PostgreSQL target, and errors that say what to do without telling the password.

The limits of a session travel as start-up options, never as SET: behind a pooler in
transaction mode a SET would stay on a server connection that the service uses next. A
pooler that swallows the options is noticed, because the session is asked for them.
The client keeps the time as well, for a server that no longer does.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo

from perfloop.adapters.patience import MARGIN_S, PatientConnection
from perfloop.adapters.queries import query
from perfloop.errors import InvalidInput, MissingRights, PerfloopError, TargetUnreachable

MINIMUM_VERSION = 140_000

SESSION_LIMITS = ("statement_timeout", "lock_timeout", "default_transaction_read_only")
"""What `connect` sets for the whole session: in it, nobody can see the server's own values."""

_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
_URI = re.compile(r"^postgres(?:ql)?://")
_EXPECTED = "expected postgresql://user@host:5432/database or host=… port=… dbname=… user=…"
_KEEPALIVES = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}

_REFUSALS: tuple[tuple[str, type[PerfloopError], str], ...] = (
    (
        "unsupported startup parameter",
        InvalidInput,
        "a pooler stands before the server; give perfloop the address of PostgreSQL itself",
    ),
    (
        "password authentication failed",
        MissingRights,
        "check the user and the password in the DSN, PGPASSWORD or ~/.pgpass",
    ),
    ("no password supplied", MissingRights, "put it into PGPASSWORD or ~/.pgpass"),
    ("pg_hba.conf", MissingRights, "allow this user and address in pg_hba.conf, or try another sslmode"),
    ("permission denied for database", MissingRights, "GRANT CONNECT ON DATABASE … TO the role"),
    ("is not permitted to log in", MissingRights, "ALTER ROLE … LOGIN"),
    ("role", InvalidInput, "check the user in the DSN"),
    ("database", InvalidInput, "check the database name in the DSN"),
    ("definition of service", InvalidInput, "check ~/.pg_service.conf and PGSERVICEFILE"),
)
_REFUSAL_ENDS = {"role": "does not exist", "database": "does not exist"}


def connect(
    dsn: str,
    *,
    read_only: bool,
    statement_timeout_s: float = 30.0,
    lock_timeout_s: float = 2.0,
    connect_timeout_s: float = 10.0,
    application_name: str = "perfloop",
) -> PatientConnection:
    """Open a session in autocommit, so that no probe holds back vacuum or fails the next one.

    The DSN may be empty: libpq then reads its environment and service files. TLS settings
    and a `connect_timeout` of the DSN are kept. A timeout of 0 means none. Where there is a statement
    timeout, an answer that is a few seconds later than it raises TargetUnreachable, at any later call.

    Raises:
        InvalidInput: The DSN cannot be read, names no such database or role, or leads to a
            pooler or to a server older than PostgreSQL 14.
        MissingRights: The server knows the role but does not let it in.
        TargetUnreachable: Nothing answered in time, or the connection was refused.
    """
    parameters = _read_dsn(dsn)
    limits = {
        "statement_timeout": _milliseconds(statement_timeout_s),
        "lock_timeout": _milliseconds(lock_timeout_s),
    }
    if read_only:
        limits["default_transaction_read_only"] = "on"
    asked = str(parameters.get("options") or os.environ.get("PGOPTIONS", ""))
    parameters["options"] = " ".join(
        [asked, *(f"-c {name}={value}" for name, value in limits.items())]
    ).strip()
    parameters["application_name"] = application_name
    parameters = {**_KEEPALIVES, "connect_timeout": str(math.ceil(connect_timeout_s)), **parameters}
    connection = _open(parameters)
    connection.answer_limit_s = statement_timeout_s + MARGIN_S if statement_timeout_s else None
    try:
        _confirm(connection, limits)
    except BaseException:  # also on Ctrl-C: a session that is not handed out is closed
        connection.close()
        raise
    return connection


def safe_dsn(dsn: str) -> str:
    """The DSN without its secrets, in the form it was given; it can be shown, stored and connected with.

    Raises:
        InvalidInput: The DSN cannot be read, or it is unclear where its password ends.
    """
    shown = {name: str(value) for name, value in _read_dsn(dsn).items() if name not in _SECRETS}
    return _as_uri(shown) if _URI.match(dsn) else conninfo.make_conninfo("", **shown)


@contextmanager
def unreachable_if_lost(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Turn the end of a connection into TargetUnreachable; other database errors pass."""
    lost: str | None = None
    try:
        yield
    except psycopg.OperationalError as error:
        if not connection.closed and not connection.broken:
            raise
        lost = first_line(error)
    if lost is not None:
        raise TargetUnreachable(
            f"the server ended the connection ({lost}); see its log, and run perfloop again once it is up"
        )


def _read_dsn(dsn: str) -> dict[str, str | int | None]:
    # libpq would take a NUL for the end of the DSN.
    fault = "it has a character that no DSN has" if "\0" in dsn else ""
    parameters: dict[str, str | int | None] = {}
    try:
        parameters = dict(conninfo.conninfo_to_dict(dsn))
    except psycopg.ProgrammingError as error:
        fault = re.sub(r'".*"', '"…"', str(error).strip(), flags=re.DOTALL)
    except UnicodeError:
        fault = "it is not UTF-8"
    if fault:
        raise InvalidInput(f"the DSN cannot be read: {fault}; {_EXPECTED}")
    if _URI.match(dsn) and _is_ambiguous(dsn, parameters):
        raise InvalidInput(
            "the DSN does not say where its password ends; write @ as %40, / as %2F and : as %3A in it"
        )
    return parameters


def _is_ambiguous(dsn: str, parameters: dict[str, str | int | None]) -> bool:
    """Whether an unescaped @ or / in the password has pushed a part of it into another field."""
    places = [str(parameters.get(name) or "") for name in ("host", "port", "dbname")]
    torn = any("@" in place and place in dsn for place in places)
    return torn or re.fullmatch(r"[\d,]*", places[1]) is None


def _open(parameters: dict[str, str | int | None]) -> PatientConnection:
    text = ""
    try:
        return PatientConnection.connect(
            conninfo.make_conninfo("", **parameters), autocommit=True, prepare_threshold=None
        )
    except psycopg.Error as error:
        text = _without_hints(str(error))
    raise _refusal(_without_secrets(text, parameters))


def _without_hints(text: str) -> str:
    """What libpq says in one line; its questions, which it indents, are answered by the remedies below."""
    return " ".join(line for line in text.strip().splitlines() if not line.startswith("\t"))


def _refusal(text: str) -> PerfloopError:
    for phrase, kind, remedy in _REFUSALS:
        if phrase in text and _REFUSAL_ENDS.get(phrase, "") in text:
            return kind(f"{text}; {remedy}")
    return TargetUnreachable(
        f"{text}; check host and port, and that the server is up and lets this machine in"
    )


def _without_secrets(text: str, parameters: dict[str, str | int | None]) -> str:
    secrets = {str(value) for name, value in parameters.items() if name in _SECRETS and value}
    secrets.add(os.environ.get("PGPASSWORD", ""))
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _confirm(connection: psycopg.Connection[Any], limits: dict[str, str]) -> None:
    with unreachable_if_lost(connection):
        version = connection.info.server_version
        in_force: dict[str, str] = dict(
            connection.execute(query("read_session_limits"), [list(limits)]).fetchall()
        )
    if version < MINIMUM_VERSION:
        raise InvalidInput(f"the server is PostgreSQL {version // 10_000}; perfloop needs 14 or newer")
    if in_force != limits:
        raise InvalidInput(
            "the session is without its limits: something between drops start-up options; "
            "give perfloop the address of PostgreSQL itself, not of a pooler"
        )


def _as_uri(shown: dict[str, str]) -> str:
    user, database = shown.pop("user", ""), shown.pop("dbname", "")
    hosts, ports = shown.pop("host", ""), shown.pop("port", "")
    authority = ",".join(_authority(hosts.split(","), ports.split(",") if ports else []))
    before = f"{quote(user, safe='')}@" if user else ""
    path = f"/{quote(database, safe='')}" if database else ""
    parameters = f"?{urlencode(shown, quote_via=quote)}" if shown else ""
    return f"postgresql://{before}{authority}{path}{parameters}"


def _authority(hosts: list[str], ports: list[str]) -> Iterator[str]:
    for position, host in enumerate(hosts):
        name = f"[{host}]" if ":" in host else quote(host, safe="")
        port = ports[position] if len(ports) == len(hosts) else "".join(ports[:1])
        yield f"{name}:{port}" if port else name


def _milliseconds(duration_s: float) -> str:
    return str(math.ceil(duration_s * 1000))


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which is the fact; psycopg puts the statement after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
