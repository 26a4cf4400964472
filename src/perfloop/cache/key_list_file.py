"""The file of a key list.

Written from time to time, whole or not at all. One that is damaged, foreign, of another version or too large
is never an error: the cache then starts cold and says why.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from perfloop.adapters.whole_file import write_whole
from perfloop.cache.key_list import FoundKeys, KeyList, KeyListPolicy

_MAGIC: Final = b"perfloop keys 1\n"
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def write_keys(path: Path, keys: KeyList) -> None:
    """Put the file in place of an older one, whole or not at all; readable by its owner only.

    Raises:
        OSError: it cannot be written; an older file stays as it is.
    """
    content = msgspec.msgpack.encode(keys)
    write_whole(path, _MAGIC + hashlib.sha256(content).digest() + content)


def read_keys(path: Path, policy: KeyListPolicy) -> FoundKeys:
    """What an earlier process left; never raises for what the file is or holds."""
    try:
        with path.open("rb") as file:
            content = file.read(policy.max_bytes + 1)
    except FileNotFoundError:
        return FoundKeys(note=f"starts cold: there is no {path} yet")
    except OSError as error:
        return FoundKeys(note=f"starts cold: {path} cannot be read: {error}")
    if len(content) > policy.max_bytes:
        return FoundKeys(note=f"starts cold: {path} has more than {policy.max_bytes} bytes")
    if not content.startswith(_MAGIC):
        return FoundKeys(
            note=f"starts cold: {path} is no list of keys, or one of another version of perfloop"
        )
    start = len(_MAGIC) + _DIGEST_BYTES
    if hashlib.sha256(content[start:]).digest() != content[len(_MAGIC) : start]:
        return FoundKeys(note=f"starts cold: {path} is damaged")
    try:
        found = msgspec.msgpack.decode(content[start:], type=KeyList)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return FoundKeys(note=f"starts cold: {path} holds something else: {error}")
    most = policy.max_keys
    return FoundKeys(found=msgspec.structs.replace(found, keys=found.keys[:most], points=found.points[:most]))
