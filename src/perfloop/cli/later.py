"""Commands of which only the name and the line in the help are known until they are used.

Loading all of them costs half a second, for drivers and parsers of which `perfloop --help`, the completion
of a shell and most commands need nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class LaterCommand(click.Command):
    """Stands for the command of its name in the module `home`, which it loads when it is called."""

    def __init__(self, name: str, *, home: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._home = home

    def load(self) -> click.Command:
        """The command itself."""
        command: click.Command = getattr(import_module(self._home), str(self.name))
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command itself: from here on, click asks the context what to do."""
        return self.load().make_context(info_name, args, parent, **extra)
