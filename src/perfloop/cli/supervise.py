"""`perfloop supervise`: keeps a fleet of workers alive, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click

from perfloop.cli.fleet_lines import FleetLines
from perfloop.errors import LaunchFailed
from perfloop.process.supervisor.orphans import Orphans
from perfloop.process.supervisor.reading import fleet_of
from perfloop.process.supervisor.supervisor import Supervisor
from perfloop.process.zygote.started import start_zygote

AT_ONCE = 130


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print events and workers' lines as JSON, one a line.")
def supervise(file: Path, as_json: bool) -> int:
    """Start the workers of FILE in order, keep them alive, and end them when this command is ended.

    What they write goes to standard output and standard error with their names; what happens to them goes
    to standard error. Ctrl-C or SIGTERM drains and ends them, a second one kills them, SIGHUP restarts
    those that run, one after another, but under nohup. Exits with 0 when all came to their end, and with 3
    when one was given up.

    \b
    perfloop supervise bots.toml
    perfloop fleet status
    """
    spec = fleet_of(file)
    started = start_zygote(spec.preloaded, spec.path)  # before asyncio is loaded
    with FleetLines(as_json=as_json) as lines:
        fleet = Supervisor(spec, on_line=lines.line, on_event=lines.event, started=started)
        return asyncio.run(_Foreground(fleet).run())


class _Foreground:
    """A fleet under the signals of a terminal or a container.

    Args:
        fleet: Not opened yet.
    """

    def __init__(self, fleet: Supervisor) -> None:
        self._fleet = fleet
        self._asked: list[str] = []
        self._work: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """The exit code of a fleet that was ended, or came to its end.

        Raises:
            FleetFailed: A worker was given up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, signal.Signals(number).name)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(signal.SIGHUP, self._restart)
        orphans = Orphans() if os.getpid() == 1 else None
        if orphans is not None:
            orphans.open()
        self._work = loop.create_task(self._keep())
        fault: BaseException | None = None
        try:
            await asyncio.wait([self._work])
            fault = None if self._work.cancelled() else self._work.exception()
        finally:
            if self._restarting is not None:
                self._restarting.cancel()
            await self._fleet.close(self._reason(fault))
        if fault is not None:
            raise fault
        if len(self._asked) > 1:
            return AT_ONCE
        self._fleet.require_no_failure()
        return 0

    def _reason(self, fault: BaseException | None) -> str:
        if self._asked:
            return f"{self._asked[0]} came"
        return "all came to their end" if fault is None else "it failed"

    async def _keep(self) -> None:
        await self._fleet.open()
        await self._fleet.wait()

    def _end(self, name: str) -> None:
        self._asked.append(name)
        if self._work is not None:
            self._work.cancel()
        if len(self._asked) > 1:
            self._fleet.kill()

    def _restart(self) -> None:
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.get_running_loop().create_task(self._restart_all())

    async def _restart_all(self) -> None:
        for group in self._fleet.spec.groups:
            try:
                await self._fleet.restart(group.name, reason="SIGHUP came", with_ended=False)
            except LaunchFailed as error:
                self._fleet.log.add("restart-stopped", group.name, str(error))
