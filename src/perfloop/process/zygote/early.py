"""Starts the zygote of `perfloop supervise` before the rest of perfloop is loaded.

That takes half as long as what workers import; where there are two processors it costs no time then.
"""

from __future__ import annotations

import os

from perfloop.process.zygote.executing import execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def begin(arguments: Sequence[str]) -> None:
    """Start it, if these are the arguments of a fleet that is to run.

    Nothing is reported here: whoever reads the file afterwards says what is wrong with it, and a zygote that
    was started for something else is ended by `start_zygote`, or with this process.
    """
    files = [each for each in arguments if not each.startswith("-")]
    if len(files) != 1 or {"-h", "--help"} & set(arguments):
        return
    pid, control = execute()
    # While it comes up.
    import socket
    import tomllib

    from perfloop.process.zygote.started import EARLY, StartedZygote, end_zygote, tell_zygote

    zygote = StartedZygote(pid, socket.socket(fileno=control))
    try:
        with open(files[0], "rb") as file:
            preload = preload_of(tomllib.load(file))
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        end_zygote(zygote)
        return
    path = (os.path.dirname(os.path.realpath(files[0])),)
    tell_zygote(zygote, preload, path)
    EARLY[preload, path] = zygote


def preload_of(document: dict[str, Any]) -> tuple[str, ...]:
    """The modules that the fleet of this file loads once, in the order of `FleetSpec.preloaded`."""
    places = [each.get("handler") or each.get("target") for each in document["groups"].values()]
    modules = [place.partition(":")[0] for place in places if place]
    return tuple(dict.fromkeys(["perfloop.process.worker", *document.get("preload", ()), *modules]))
