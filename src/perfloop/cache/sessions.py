"""A session as a request sees it, its cookie and its lives; where it is kept is the store's concern.

The cookie holds 256 random bits and their signature, nothing else. In the cache a session is two entries:

- the *mark*, written once under this id, with the user's tag: there is a session as long as there is a mark.
  Destroying it deletes the mark, and no late write can bring it back, since none writes a mark again;
- the *content*, written when it has changed.

Both stand under a digest of the id, so that who reads the cache's keys can impersonate nobody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from perfloop.cache.rows import decoded, encoded
from perfloop.errors import InvalidInput
from perfloop.model.value import Value, require

ID_BYTES: Final = 32
MIN_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A cookie's name, by RFC 6265."""
TOUCH_RATIO: Final = 0.1
"""Share of the idle life after which a request that changes nothing writes that the session is in use."""


class SessionPolicy(Value, frozen=True, kw_only=True):
    """How long sessions live, how large they may be, and what the browser is told of the cookie."""

    idle_s: float = 1800.0
    """A session that no request has used for so long has ended; it may end by a tenth of this earlier."""
    absolute_s: float = 12 * 3600.0
    """And so long after it began or was rotated, in any case."""
    max_bytes: int = 16 * 1024
    cookie: str = "session"
    path: str = "/"
    domain: str | None = None
    secure: bool = True
    same_site: Literal["lax", "strict", "none"] = "lax"
    serves_alone: bool = False
    """Whether to go on with what this process remembers while Redis is away; else requests with a session
    are refused then, because another process may have ended it."""

    def __post_init__(self) -> None:
        require(0 < self.idle_s <= self.absolute_s, "idle_s must be above 0, and absolute_s no less than it")
        require(self.secure or self.same_site != "none", "browsers take SameSite=None with Secure only")
        require(_TOKEN.fullmatch(self.cookie) is not None, f"{self.cookie!r} is no cookie's name")
        if self.cookie.startswith(("__Host-", "__Secure-")):
            require(self.secure, f"browsers take {self.cookie} with Secure only")
        if self.cookie.startswith("__Host-"):
            is_of_host = self.path == "/" and self.domain is None
            require(is_of_host, f"browsers take {self.cookie} with path='/' and without a domain only")


class WebSession(dict[str, Any]):
    """What a request knows of its visitor; a dict, written after the request where it has changed."""

    def __init__(self, content: bytes | None = None, *, user: str | None = None) -> None:
        super().__init__({} if content is None else decoded(content))
        self._before = {key: encoded(value) for key, value in self.items()}
        self.user = user
        """Whom it was rotated for."""
        self.is_rotated = False
        self.is_login = False
        self.is_destroyed = False

    def rotate(self, user: str | None = None) -> None:
        """Go on under a new id, the old one being dead at once: at each login, and whenever rights change.

        Args:
            user: Who logged in, so that all sessions of theirs can be ended; None leaves it as it is.
        """
        self.is_rotated, self.is_destroyed = True, False
        if user is not None:
            self.user, self.is_login = user, True

    def destroy(self) -> None:
        """End it, with all that is in it: at logout."""
        self.clear()
        self.is_destroyed, self.is_rotated, self.user = True, False, None

    def changes(self) -> tuple[dict[str, Any], set[str]]:
        """What was set, in depth, and what was removed.

        Raises:
            InvalidInput: It holds what cannot be kept.
        """
        written = {key: value for key, value in self.items() if encoded(value) != self._before.get(key)}
        return written, self._before.keys() - self.keys()

    def __repr__(self) -> str:
        return f"<WebSession, size {len(self)}>"


def merged(content: bytes | None, session: WebSession, max_bytes: int) -> bytes:
    """The content with what a request has changed in it: of each key, the last who writes wins.

    Raises:
        InvalidInput: It is larger than it may be.
    """
    written, removed = session.changes()
    latest: Mapping[str, Any] = {} if content is None else decoded(content)
    kept = {key: value for key, value in {**latest, **written}.items() if key not in removed}
    body = encoded(kept)
    if len(body) > max_bytes:
        raise InvalidInput(
            f"the session would take {len(body)} bytes, and {max_bytes} are allowed; keep the large part in"
            " the database, and its id in the session"
        )
    return body


def mark_key(session_id: str) -> str:
    """Under which the mark of a session stands."""
    return f"session-mark:{_digest(session_id)}"


def content_key(session_id: str) -> str:
    """Under which its content stands."""
    return f"session:{_digest(session_id)}"


def user_tag(user: str) -> str:
    """What the marks of a user's sessions are found by."""
    return f"session-user:{user}"


def new_id() -> str:
    """256 random bits as text."""
    return _text(secrets.token_bytes(ID_BYTES))


class SessionCookie:
    """Signs ids with the first secret, and believes those that any of them signed."""

    def __init__(self, keys: Sequence[bytes], policy: SessionPolicy) -> None:
        if not keys or not all(isinstance(key, bytes) and len(key) >= MIN_SECRET_BYTES for key in keys):
            raise InvalidInput(
                f"sessions need a list of secrets of {MIN_SECRET_BYTES} bytes or more, the newest first; make"
                " one with secrets.token_bytes(32), and let all processes share it"
            )
        self._keys = [
            hmac.digest(key, b"perfloop.sessions\0" + policy.cookie.encode(), "sha256") for key in keys
        ]
        self._policy = policy

    def read(self, header: str) -> str | None:
        """The id in a request's Cookie header, if we signed it."""
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            session_id, _, signature = value.strip('"').partition(".")
            if name == self._policy.cookie and self._is_ours(session_id, signature):
                return session_id
        return None

    def write(self, session_id: str | None) -> str:
        """The value of a Set-Cookie header; None makes the browser forget."""
        policy = self._policy
        value = "" if session_id is None else f"{session_id}.{_signature(self._keys[0], session_id)}"
        parts = [
            f"{policy.cookie}={value}",
            f"Path={policy.path}",
            f"Max-Age={0 if session_id is None else int(policy.absolute_s)}",
            "HttpOnly",
            f"SameSite={policy.same_site.capitalize()}",
            *([f"Domain={policy.domain}"] if policy.domain else []),
            *(["Secure"] if policy.secure else []),
        ]
        return "; ".join(parts)

    def _is_ours(self, session_id: str, signature: str) -> bool:
        given = signature.encode("utf-8", "replace")
        signatures = [_signature(key, session_id).encode() for key in self._keys]
        return any(hmac.compare_digest(given, own) for own in signatures)


def _signature(key: bytes, session_id: str) -> str:
    return _text(hmac.digest(key, session_id.encode("utf-8", "replace"), "sha256"))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()
