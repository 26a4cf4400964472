"""Starts the zygote of `perfloop supervise` before the rest of perfloop is loaded.

That takes half as long as what workers import; where there are two processors it costs no time then.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from typing import Any

from perfloop.process.zygote.started import EARLY, StartedZygote, end_zygote, execute_zygote, tell_zygote


def begin(arguments: Sequence[str]) -> None:
    """Start it, if these are the arguments of a fleet that is to run.

    Nothing is reported here: whoever reads the file afterwards says what is wrong with it, and a zygote that
    was started for something else is ended by `start_zygote`, or with this process.
    """
    files = [each for each in arguments if not each.startswith("-")]
    if len(files) != 1 or {"-h", "--help"} & set(arguments):
        return
    zygote = execute_zygote()  # it comes up while the file is read
    try:
        with open(files[0], "rb") as file:
            preload = preload_of(tomllib.load(file))
    except (OSError, ValueError, AttributeError, TypeError):
        end_zygote(zygote)
        return
    folder = os.path.dirname(os.path.realpath(files[0]))
    _keep(zygote, preload, (folder,))


def preload_of(document: dict[str, Any]) -> tuple[str, ...]:
    """The modules that the fleet of this file loads once, in the order of `FleetSpec.preloaded`."""
    places = [each.get("handler") or each.get("target") for each in document["groups"].values()]
    modules = [place.partition(":")[0] for place in places if place]
    return tuple(dict.fromkeys(["perfloop.process.worker", *document.get("preload", ()), *modules]))


def _keep(zygote: StartedZygote, preload: tuple[str, ...], path: tuple[str, ...]) -> None:
    tell_zygote(zygote, preload, path)
    EARLY[preload, path] = zygote
