"""Where a server is, and how to log in there: what the URL says."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from perfloop.adapters.remote.resp import pack
from perfloop.errors import InvalidInput

_SCHEMES: Final = ("redis", "rediss", "unix")
_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_TLS_OPTIONS: Final = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_OPTIONS: Final = ("db", *_TLS_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Of one server. `path` is its socket, and then host and port say nothing."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @property
    def user(self) -> str:
        """As ACL SETUSER calls it."""
        return self.username or "default"

    def login(self) -> list[bytes]:
        """The commands with which each connection begins; all of them must be answered well."""
        commands = [pack("CLIENT", "SETNAME", "perfloop-cache")]
        if self.db:
            commands.insert(0, pack("SELECT", self.db))
        if self.password is not None:
            credentials = (self.username, self.password) if self.username else (self.password,)
            commands.insert(0, pack("AUTH", *credentials))
        return commands

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `redis://user:password@host:6379/0`, the same with `rediss` for TLS, or `unix:///path?db=0`.

        TLS takes the options of redis-py: ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile and
        ssl_check_hostname.

        Raises:
            InvalidInput: It says something else.
        """
        try:
            if not isinstance(url, str):  # such as a URL object of a settings library
                raise ValueError(f"a {type(url).__name__}, where text is asked for; give str(url)")
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            unknown = sorted(set(options) - set(_OPTIONS))
            if parts.scheme not in _SCHEMES or unknown:
                raise ValueError(f"unknown option {unknown[0]}" if unknown else f"scheme {parts.scheme!r}")
            (parts.hostname or "").encode("idna")  # as whoever connects does
            is_socket = parts.scheme == "unix"
            db = options.get("db") or ("" if is_socket else parts.path.strip("/")) or "0"
            return cls(
                host=parts.hostname or "localhost",
                port=parts.port or 6379,
                path=unquote(parts.path) if is_socket else None,
                db=int(db),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                tls=_tls(options) if parts.scheme == "rediss" else None,
            )
        except (ValueError, OSError) as error:
            raise InvalidInput(
                f"the URL of Redis cannot be used ({error}); "
                "expected redis://user:password@host:6379/0, rediss://… or unix:///path"
            ) from None


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    reqs = options.get("ssl_cert_reqs", "required")
    if reqs not in _CERT_REQS:
        raise ValueError(f"ssl_cert_reqs={reqs}")
    is_checked = options.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    context.check_hostname = is_checked and reqs == "required"
    context.verify_mode = _CERT_REQS[reqs]
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
