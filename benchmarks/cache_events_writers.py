"""What the ways to tell of changes cost those who write: pgbench in turns, writing alone and with reads."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]  # ships no types
from psycopg.conninfo import conninfo_to_dict

from benchmarks.page import table

WRITERS = 16
READS_PER_WRITE = 100
WRITE = "\\set id random(1, {rows})\nUPDATE objects SET version = version + 1 WHERE id = :id;\n"
READ = "\\set id random(1, {rows})\nSELECT version FROM objects WHERE id = :id;\n"
MIXES = {
    f"{READS_PER_WRITE} reads a write": f"{READS_PER_WRITE} SELECTs of a row to 1 UPDATE of a row",
    "writes alone": "UPDATEs of a row, each a transaction",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one run of pgbench showed."""

    per_s: float
    server_cpu_us: float
    """Of the server's processes, per transaction, with what the reader of changes asks of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """A server, and how long to write to it.

    `heard` holds the reader of an arm's changes open, by the arm's name.
    """

    bin_dir: Path
    server_pid: int
    dsns: dict[str, str]
    heard: Callable[[str], AbstractContextManager[object]]
    rows: int
    seconds: float
    repetitions: int

    def turns(self, mix: str) -> dict[str, list[Turn]]:
        """The arms take turns, in another order each time."""
        found: dict[str, list[Turn]] = {name: [] for name in self.dsns}
        with tempfile.TemporaryDirectory() as folder:
            scripts = self._scripts(Path(folder), mix)
            for repetition in range(self.repetitions):
                order = list(self.dsns)
                random.Random(repetition).shuffle(order)
                for name in order:
                    with self.heard(name):
                        found[name].append(self._turn(self.dsns[name], scripts))
        return found

    def _scripts(self, folder: Path, mix: str) -> list[str]:
        write, read = folder / "write.sql", folder / "read.sql"
        write.write_text(WRITE.format(rows=self.rows), encoding="utf-8")
        read.write_text(READ.format(rows=self.rows), encoding="utf-8")
        alone = ["-f", f"{write}@1"]
        return alone if mix == "writes alone" else [*alone, "-f", f"{read}@{READS_PER_WRITE}"]

    def _turn(self, dsn: str, scripts: Sequence[str]) -> Turn:
        parts = conninfo_to_dict(dsn)
        command = [str(self.bin_dir / "pgbench"), "-n", "-M", "prepared", "-c", str(WRITERS), "-j", "2"]
        command += ["-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"])]
        command += ["-T", str(round(self.seconds)), *scripts, str(parts["dbname"])]
        began_s = cpu_s(self.server_pid)
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent_s = cpu_s(self.server_pid) - began_s
        rate = re.search(r"tps = ([\d.]+)", told)
        count = re.search(r"actually processed: (\d+)", told)
        if rate is None or count is None:
            raise RuntimeError(f"pgbench did not say how fast it was: {told}")
        return Turn(per_s=float(rate[1]), server_cpu_us=spent_s / int(count[1]) * 1e6)


def cpu_s(pid: int) -> float:
    """What a process, its children and those that ended have used."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)


def page(mix: str, found: dict[str, list[Turn]], asked: dict[str, str]) -> str:
    """Each arm against the one named `without`, turn by turn."""
    without = found["without"]
    rows = []
    for name, turns in found.items():
        ratios = [turn.per_s / bare.per_s - 1 for turn, bare in zip(turns, without, strict=True)]
        more_us = [turn.server_cpu_us - bare.server_cpu_us for turn, bare in zip(turns, without, strict=True)]
        against = f"{median(ratios):+.0%} ({min(ratios):+.0%} to {max(ratios):+.0%})"
        cpu = f"{median(turn.server_cpu_us for turn in turns):.0f}"
        more = "" if name == "without" else f"{median(more_us):+.1f}"
        rows.append(
            (
                name,
                f"{median(turn.per_s for turn in turns):,.0f}",
                "" if name == "without" else against,
                cpu,
                more,
                asked.get(name, ""),
            )
        )
    head = ("arm", "transactions/s", "against without", "server CPU µs each", "more", "facts")
    return f"{WRITERS} clients, {MIXES[mix]}:\n\n{table(head, rows)}"
