"""A usage profile as a file, for `perfloop cache advise`: JSON, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perfloop.adapters.whole_file import write_whole
from perfloop.cache.usage import USAGE_VERSION, UsageProfile
from perfloop.errors import InvalidInput
from perfloop.model.value import to_json


class _Version(msgspec.Struct):
    version: int


def write_usage(path: str | Path, profile: UsageProfile) -> None:
    """Put the file in place of an older one; readable by its owner only, as hot keys may name people.

    Raises:
        OSError: it cannot be written; an older file stays as it is.
    """
    write_whole(Path(path), msgspec.json.format(to_json(profile), indent=1) + b"\n")


def read_usage(path: str | Path) -> UsageProfile:
    """What `write_usage` wrote.

    Raises:
        OSError: it cannot be read.
        InvalidInput: It is no usage profile, or one of another version.
    """
    content = Path(path).read_bytes()
    try:
        found = msgspec.json.decode(content, type=_Version).version
        if found == USAGE_VERSION:
            return msgspec.json.decode(content, type=UsageProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} is no usage profile: {error}; write one with write_usage(path, cache.usage())"
        ) from None
    raise InvalidInput(
        f"{path} is a usage profile of version {found}, and this perfloop reads {USAGE_VERSION}; write it"
        " and read it with the same perfloop"
    )
