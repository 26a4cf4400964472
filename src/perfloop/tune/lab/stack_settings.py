"""The settings that the stack has: those that its server was started with, and those that are kept so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from perfloop.model.advice import AlterSetting
from perfloop.tune.lab.copies import open_session, set_session
from perfloop.tune.lab.servers import LabServer


class StackSettings:
    """Opens sessions with the stack's settings, some more or less, and knows what a second server needs."""

    def __init__(self, server: LabServer, start: Mapping[str, str]) -> None:
        self.start = dict(start)
        """What the server had before anything was kept."""
        self._server = server
        self._of_server = dict(start)
        self._of_sessions: dict[str, str] = {}

    @contextmanager
    def session(
        self, dsn: str, extra: Mapping[str, str] | None = None, *, without: str | None = None
    ) -> Iterator[psycopg.Connection]:
        """A session as the stack's are; `extra` comes on top, `without` is as it was at the start."""
        settings = {**self._server.session, **self._of_sessions, **(extra or {})}
        if without is not None:
            settings.pop(without)
            if without in self._server.session:
                settings[without] = self._server.session[without]
        with open_session(dsn) as connection:
            set_session(connection, settings)
            yield connection

    def server_with(self, change: AlterSetting) -> dict[str, str]:
        """What a second server is started with to have the change as well."""
        return {**self._of_server, change.name: change.value}

    def server_without(self, change: AlterSetting) -> dict[str, str]:
        """What a second server is started with to lack a kept change."""
        others = {name: value for name, value in self._of_server.items() if name != change.name}
        first = self.start.get(change.name)
        return others if first is None else {**others, change.name: first}

    def keep_in_sessions(self, change: AlterSetting) -> None:
        self._of_sessions[change.name] = change.value

    def withdraw_from_sessions(self, change: AlterSetting) -> None:
        del self._of_sessions[change.name]

    def begin_anew(self, settings: Mapping[str, str]) -> None:
        """Forget what sessions kept, and let the server have its first settings with these on top."""
        self._of_sessions.clear()
        wanted = {**self.start, **settings}
        if settings and self._of_server != wanted:
            self.restart(wanted)

    def restart(self, settings: Mapping[str, str]) -> None:
        """Start the server anew with exactly these."""
        self._server.restart(settings)
        self._of_server = dict(settings)
