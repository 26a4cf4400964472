"""Looks at a worker from outside: is it ready, does it hang?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from perfloop.process.supervisor.running import Running
from perfloop.process.supervisor.specs import HealthPolicy, ReadyPolicy

_LOOKS: Final = 4
"""In the time that a heartbeat has."""


async def until_ready_or_ended(running: Running) -> None:
    """Wait until it is.

    Raises:
        TimeoutError: It is not in time.
    """
    policy = running.group.ready
    readying = asyncio.create_task(_ready(running, policy))
    try:
        waited: set[asyncio.Future[Any]] = {readying, running.ended}
        done, _ = await asyncio.wait(waited, timeout=policy.within_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
        if readying in done:
            readying.result()
    finally:
        readying.cancel()


async def until_hung(running: Running) -> str:
    """Wait until it hangs; how that shows."""
    looks: list[asyncio.Task[str]] = [asyncio.create_task(each) for each in _looks(running)]
    if not looks:
        await asyncio.Event().wait()
    try:
        done, _ = await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for each in looks:
            each.cancel()


def _looks(running: Running) -> list[Coroutine[Any, Any, str]]:
    group = running.group
    found: list[Coroutine[Any, Any, str]] = []
    if group.has_channel and group.health.heartbeat_s:
        found.append(_silence(running, group.health.heartbeat_s))
    if group.health.http is not None or group.health.probe:
        found.append(_deafness(group.health))
    return found


async def _ready(running: Running, policy: ReadyPolicy) -> None:
    if policy.delay_s is not None:
        await asyncio.sleep(policy.delay_s)
    elif policy.output is not None:
        await asyncio.shield(running.wrote_ready)
    elif not policy.is_by_word:
        await _well(policy)
    elif running.group.has_channel:
        await asyncio.shield(running.said_ready)


async def _well(policy: ReadyPolicy) -> None:
    while not await answers(policy.http, policy.probe, timeout_s=policy.within_s):  # noqa: ASYNC110  # it is asked
        await asyncio.sleep(policy.every_s)


async def _silence(running: Running, heartbeat_s: float) -> str:
    """Wait until nothing was heard for this long, though it was asked."""
    loop = asyncio.get_running_loop()
    step_s = heartbeat_s / _LOOKS
    while True:
        slept_s = loop.time()
        await asyncio.sleep(step_s)
        if loop.time() - slept_s > 2 * step_s:
            running.heard_s = loop.time()  # the supervisor itself stood still: nobody could be heard
        if running.group.target and not running.is_answering and not running.under_way:
            running.heard_s = loop.time()
        silent_s = loop.time() - running.heard_s
        if silent_s >= heartbeat_s:
            return (
                f"nothing was heard of it for {silent_s:.1f} s; if messages take that long, raise heartbeat_s"
                " or call heartbeat() meanwhile"
            )
        running.ping()


async def _deafness(policy: HealthPolicy) -> str:
    """Wait until the worker has failed to answer as often as may be."""
    failures = 0
    while failures < policy.failures:
        await asyncio.sleep(policy.every_s)
        is_well = await answers(policy.http, policy.probe, timeout_s=policy.timeout_s)
        failures = 0 if is_well else failures + 1
    asked = policy.http or " ".join(policy.probe)
    return f"{asked} failed {failures} times in a row"


async def answers(http: str | None, probe: Sequence[str], *, timeout_s: float) -> bool:
    """Whether a URL answers with a status below 400, or a command ends with 0, in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await (_responds(http) if http is not None else _succeeds(probe))
    except (TimeoutError, OSError, ValueError):  # ValueError: a name or an answer that is none
        return False


async def _responds(url: str) -> bool:
    """As much of HTTP as tells the status."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=is_tls or None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readline()).split()
        return len(status) >= 2 and status[1].isdigit() and int(status[1]) < 400
    finally:
        writer.close()


async def _succeeds(command: Sequence[str]) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
