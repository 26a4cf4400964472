"""A worker in a Python of its own, with CHANNEL TARGET NAME COUNT [ARGUMENTS] [FOLDERS] on its command line.

COUNT is how many arguments there are before the folders.
"""

from __future__ import annotations

import sys

from perfloop.process.zygote.ending import call


def main() -> None:
    """Call the target, with its modules looked for where its supervisor's are."""
    channel, target, name, count, *rest = sys.argv[1:]
    arguments, folders = rest[: int(count)], rest[int(count) :]
    sys.path[:0] = [each for each in folders if each not in sys.path]
    sys.exit(call(target, name, int(channel), arguments))


def command(channel: int, target: str, name: str, arguments: list[str], folders: list[str]) -> list[str]:
    """How such a worker is executed."""
    own = [str(channel), target, name, str(len(arguments))]
    return [sys.executable, "-m", "perfloop.process.zygote.spawned", *own, *arguments, *folders]


if __name__ == "__main__":
    main()
