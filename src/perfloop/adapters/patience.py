"""A connection that gives up on a server which has stopped answering.

statement_timeout runs on the server's own clock: a server that is frozen as a whole (a paused container, a
disk that hangs) never looks at it, while its kernel goes on answering keepalives. So the client counts too.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo, errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from perfloop.errors import TargetUnreachable

MARGIN_S: Final = 5.0
"""What an answer may take beyond the server's own limit: its way, and the queue for a processor."""

ResultT = TypeVar("ResultT")


class PatientConnection(psycopg.Connection[Any]):
    """Ends a wait for an answer after `answer_limit_s` without a byte.

    With None there is no such limit, as for a build that may take hours. Then every `look_after_s` a
    second connection looks whether the server still lets anybody in. It cannot see a single backend that
    is frozen alone.
    """

    answer_limit_s: float | None = None
    look_after_s: float = 30.0
    look_limit_s: float = 30.0

    def wait(self, gen: PQGen[ResultT], *arguments: Any, **named: Any) -> ResultT:
        """Wait as psycopg does, on a generator that looks at the clock whenever nothing has arrived.

        Raises:
            TargetUnreachable: the limit has passed; the connection is closed then.
        """
        try:
            return super().wait(self._watched(gen), *arguments, **named)
        except KeyboardInterrupt:
            # psycopg has cancelled the statement, unless it was the watching that the signal fell into.
            if self.info.transaction_status is TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise

    def _watched(self, gen: PQGen[ResultT]) -> PQGen[ResultT]:
        began_s = looked_s = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now_s = time.monotonic()
                if not ready and self.answer_limit_s is not None and now_s - began_s > self.answer_limit_s:
                    self._give_up(now_s - began_s)
                if not ready and self.answer_limit_s is None and now_s - looked_s > self.look_after_s:
                    if is_silent(self._dsn(), limit_s=self.look_limit_s):
                        self._give_up(time.monotonic() - began_s)
                    looked_s = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: ResultT = end.value
            return result

    def _give_up(self, waited_s: float) -> None:
        self.pgconn.finish()
        raise TargetUnreachable(silence(f"has not answered for {waited_s:.0f} s"))

    def _dsn(self) -> str:
        return conninfo.make_conninfo("", **self.info.get_parameters(), password=self.info.password or None)


def is_silent(dsn: str, *, limit_s: float) -> bool:
    """Whether the server says nothing at all to a newcomer; a refusal, as for too many, is an answer."""
    try:
        psycopg.connect(dsn, connect_timeout=math.ceil(limit_s)).close()
    except errors.ConnectionTimeout:
        return True
    except psycopg.Error:
        return False
    return False


def silence(fact: str) -> str:
    """The sentence on a server that does not answer, with the way out."""
    return (
        f"the server {fact}, though its connections stand: it hangs, or its machine or container is "
        "paused; see whether it runs, and run perfloop again once it answers"
    )
