"""`perfloop` and `python -m perfloop`: quiet also where Ctrl-C comes while modules are still being loaded."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        if sys.argv[1:2] == ["supervise"]:
            _open_standard()
            from perfloop.process.zygote import early

            early.begin(sys.argv[2:])
        from perfloop.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


def _open_standard() -> None:
    """Where a shell has closed 0, 1 or 2, no socket or pipe of the fleet may take its number."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)


if __name__ == "__main__":
    main()
