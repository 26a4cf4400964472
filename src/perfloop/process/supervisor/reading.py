"""Reads the file of a fleet; what it takes to reach a fleet that runs, without what runs one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perfloop.errors import InvalidInput
from perfloop.process.supervisor.control_place import usual_place
from perfloop.process.supervisor.fleet_file import parse_fleet
from perfloop.process.supervisor.specs import FleetSpec


def fleet_of(path: Path) -> FleetSpec:
    """The fleet of a file, with the place of its control socket.

    Raises:
        InvalidInput: The file cannot be read, or says something that is not understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"cannot read {path}: {fact}; name a fleet file, in TOML") from error
    spec = parse_fleet(text, str(path), folder=str(path.resolve().parent))
    return spec if spec.control else msgspec.structs.replace(spec, control=str(usual_place(path)))
