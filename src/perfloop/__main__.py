"""`perfloop` and `python -m perfloop`: quiet also where Ctrl-C comes while modules are still being loaded."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        if sys.argv[1:2] == ["supervise"]:
            from perfloop.process.zygote import early

            early.begin(sys.argv[2:])
        from perfloop.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
