# Generated from perfloop/cache/_async/sessions.py by tools/make_sync.py; edit that one.
"""Where sessions are kept: the mark and the content of each in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perfloop.cache._sync.cache import TieredCache
from perfloop.cache.policy import CachePolicy
from perfloop.cache.sessions import (
    TOUCH_RATIO,
    SessionCookie,
    SessionPolicy,
    WebSession,
    content_key,
    mark_key,
    merged,
    new_id,
    user_tag,
)
from perfloop.errors import InvalidInput, TargetUnreachable


@dataclass(slots=True, kw_only=True)
class Opened:
    """A session for the time of one request; `session` is what the application sees."""

    session: WebSession
    session_id: str | None = field(repr=False)
    """None until there is something to keep, and for an id that nobody gave out."""
    began_at_s: float
    used_at_s: float


class Sessions:
    """The sessions of one service, for threads.

    Args:
        cache: Open while requests are served. Without Redis it serves a single process.
        secrets: Sign the cookies: the first signs, all are believed. To change it, put the new one in front,
            and take the old one out once `absolute_s` has passed.
        policy: Lives, limits and the cookie.
        clock: Seconds since 1970; the hosts' clocks may differ by much less than the lives.
    """

    def __init__(
        self,
        cache: TieredCache,
        secrets: Sequence[bytes],
        *,
        policy: SessionPolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._policy = policy or SessionPolicy()
        self.cookie = SessionCookie(secrets, self._policy)
        self._clock = clock

    def open(self, cookies: str) -> Opened:
        """The session of a request by its Cookie header; a new one where there is none.

        Raises:
            TargetUnreachable: Redis is away, and the policy does not let the process serve alone.
        """
        now_s = self._clock()
        session_id = self.cookie.read(cookies)
        if session_id is not None:
            found = self._found(session_id, now_s)
            if found is not None:
                return found
        return Opened(session=WebSession(), session_id=None, began_at_s=now_s, used_at_s=now_s)

    def save(self, opened: Opened) -> str | None:
        """Keep what the request has changed; a Set-Cookie header where the browser has to be told.

        Raises:
            InvalidInput: It is too large, or holds what cannot be kept.
            TargetUnreachable: As for `open`.
        """
        session, old_id = opened.session, opened.session_id
        if session.is_destroyed:
            if old_id is not None:
                self._end(old_id)
            return self.cookie.write(None)
        if session.is_rotated or (old_id is None and session):
            return self._begin(opened, old_id)
        is_due = self._clock() - opened.used_at_s >= TOUCH_RATIO * self._policy.idle_s
        if old_id is not None and (is_due or any(session.changes())):
            self._write(old_id, opened, self._content(old_id))
        return None

    def end_all(self, user: str) -> None:
        """End all sessions that were rotated for this user, in all processes."""
        self._cache.invalidate_tag(user_tag(user))
        self._require_truth()

    def _found(self, session_id: str, now_s: float) -> Opened | None:
        mark_name, content_name = mark_key(session_id), content_key(session_id)
        found = self._cache.get_many((mark_name, content_name))
        self._require_truth()
        mark, content = found.get(mark_name), found.get(content_name)
        if mark is None or content is None:
            return None
        (began_at_s, user), (used_at_s, body) = mark, content
        policy = self._policy
        if now_s - began_at_s >= policy.absolute_s or now_s - used_at_s >= policy.idle_s:
            return None
        try:
            session = WebSession(body, user=user)
        except InvalidInput:  # of a later version: whoever rolls back starts anew
            return None
        return Opened(session=session, session_id=session_id, began_at_s=began_at_s, used_at_s=used_at_s)

    def _begin(self, opened: Opened, old_id: str | None) -> str:
        """Under a new id; a session that another request has ended goes on by a login only."""
        session, content = opened.session, None
        if old_id is not None:
            if not session.is_login and self._cache.get(mark_key(old_id)) is None:
                return self.cookie.write(None)
            content = self._content(old_id)
        opened.session_id = new_id()
        opened.began_at_s = self._clock()
        self._write(opened.session_id, opened, content)
        tags = () if session.user is None else (user_tag(session.user),)
        life = CachePolicy(ttl_s=self._policy.absolute_s, jitter_ratio=0.0)
        mark = [opened.began_at_s, session.user]
        self._cache.set(mark_key(opened.session_id), mark, policy=life, tags=tags)
        self._require_truth()
        if old_id is not None:
            self._end(old_id)
        return self.cookie.write(opened.session_id)

    def _write(self, session_id: str, opened: Opened, content: bytes | None) -> None:
        body = merged(content, opened.session, self._policy.max_bytes)
        now_s = self._clock()
        left_s = opened.began_at_s + self._policy.absolute_s - now_s
        if left_s > 0:
            life = CachePolicy(ttl_s=min(self._policy.idle_s, left_s), jitter_ratio=0.0)
            self._cache.set(content_key(session_id), [now_s, body], policy=life)
        self._require_truth()

    def _content(self, session_id: str) -> bytes | None:
        """As another request may have left it meanwhile."""
        found = self._cache.get(content_key(session_id))
        return None if found is None else found[1]

    def _end(self, session_id: str) -> None:
        self._cache.delete(mark_key(session_id), content_key(session_id))
        self._require_truth()

    def _require_truth(self) -> None:
        if self._cache.is_alone and not self._policy.serves_alone:
            raise TargetUnreachable(
                "the Redis that knows which sessions have ended is away; bring it back, or let each process"
                " serve what it remembers with SessionPolicy(serves_alone=True)"
            )
