"""Values to bytes and back, in a format that any later version can read, and that a stranger cannot forge.

Version 1, byte by byte::

    0      0xB5             no text and no msgpack or pickle of ours begins with it
    1      1                the version
    2      m | p | o        msgpack, pickle, or the user's own serialiser
    3      flags            1: signed, 2: compressed by zstd, 4: only a type makes it the value again
    4-35   HMAC-SHA256      only where signed
    rest   the body

The signature covers scope, key, these four bytes and the body as stored, so that a value cannot be moved to
another key, nor its flags changed. It does not say how old a value is: who may write to the server can put
back an earlier value of the same key.

What cannot be read is a Rejection, never an exception: a miss to be counted. With a secret, whatever is not
signed with it is rejected before one byte is decompressed or decoded. Without one, msgpack is stored
unsigned, for it makes nothing but plain values; pickle runs code when it is read, and is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar, Union, get_args, get_origin, overload

import msgspec

from perfloop.cache.compression import compressed, decompressed, is_there
from perfloop.errors import InvalidInput

ValueT = TypeVar("ValueT")

COMPRESS_ABOVE_BYTES: Final = 1024
"""A single row does not shrink: 0.9 to 1.08 times at 200 bytes, 2.7 times at 3 kB."""
MIN_SECRET_BYTES: Final = 16

_MAGIC: Final = 0xB5
_VERSION: Final = 1
_SIGNED: Final = 1
_COMPRESSED: Final = 2
_TYPED: Final = 4
_HEAD_BYTES: Final = 4
_DIGEST_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_NIL: Final = b"\xc0"
"""None in msgpack: there is no value, whatever the type of one would be."""
_PLAIN: Final = (None, type(None), bool, int, float, str, bytes, list, dict, Any)


class Rejection(StrEnum):
    """Why bytes of the shared tier were not read."""

    FOREIGN = "foreign"
    """Not of this format."""
    NEWER = "newer"
    """Of a later version of it."""
    TRUNCATED = "truncated"
    UNSIGNED = "unsigned"
    """There is a secret, and no signature."""
    FORGED = "forged"
    """The signature is of another secret, another key or another value."""
    OTHER_SERIALIZER = "other_serializer"
    COMPRESSED = "compressed"
    """Python has no zstd here: it comes with `perfloop[redis]`."""
    UNREADABLE = "unreadable"
    """The body does not decode, or not to the type that was asked for."""


class Serializer(Protocol):
    """A serialiser of the user's own. Without a secret, `loads` has to be safe on bytes of anybody."""

    def dumps(self, value: Any, /) -> bytes: ...

    def loads(self, body: bytes, /) -> Any: ...


class Codec:
    """Encodes and decodes the values of one cache. It has no state that changes, and threads may share it.

    Args:
        serializer: "msgpack", "pickle", or one's own.
        secret: At least 16 bytes, the same in all processes; signs every value. A new one makes the values
            that were signed with the old one misses.
        scope: What keeps caches with the same secret apart: the prefix of the keys.

    Raises:
        InvalidInput: Pickle without a secret, or a secret that is too short.
    """

    def __init__(
        self,
        serializer: Literal["msgpack", "pickle"] | Serializer = "msgpack",
        *,
        secret: bytes | None = None,
        scope: str = "",
    ) -> None:
        if secret is not None and (not isinstance(secret, bytes) or len(secret) < MIN_SECRET_BYTES):
            raise InvalidInput(
                f"a secret is bytes, {MIN_SECRET_BYTES} or more; make one with secrets.token_bytes(32)"
            )
        if serializer == "pickle" and secret is None:
            raise InvalidInput(
                "pickle runs code when it is read, so its bytes must be signed; give a secret, or use msgpack"
            )
        self._serializer = _serializer(serializer)
        self._signer = None if secret is None else _Signer(secret, scope)
        self._name = _name(serializer)

    def encode(self, key: str, value: object, kind: Any = None) -> bytes:
        """The bytes to store for the value of `key`.

        Args:
            key: Without prefix.
            value: What the loader gave.
            kind: The type to decode to, for msgpack: `User`, `list[User]`. Without it only what msgpack knows
                comes back as it was: None, bool, int, float, str, bytes, lists, and dicts of these.

        Raises:
            InvalidInput: It would not come back as it is.
        """
        body = self._serializer.dumps(value, kind)
        flags = 0 if self._signer is None else _SIGNED
        if value is not None and self._serializer.needs_kind(kind):
            flags |= _TYPED
        if len(body) > COMPRESS_ABOVE_BYTES and is_there():
            smaller = compressed(body)
            if len(smaller) < len(body):
                body, flags = smaller, flags | _COMPRESSED
        head = bytes((_MAGIC, _VERSION, self._name, flags))
        if self._signer is None:
            return head + body
        return b"".join((head, self._signer.digest(key, head, body), body))

    @overload
    def decode(self, key: str, payload: bytes) -> Any: ...

    @overload
    def decode(self, key: str, payload: bytes, kind: type[ValueT]) -> ValueT | Rejection: ...

    def decode(self, key: str, payload: bytes, kind: Any = None) -> Any:
        """The value, or a Rejection. Never raises."""
        head = payload[:_HEAD_BYTES]
        rejection = self._reject(head)
        if rejection is not None:
            return rejection
        at = _HEAD_BYTES
        if self._signer is not None:
            at += _DIGEST_BYTES
            body = payload[at:]
            if not hmac.compare_digest(payload[_HEAD_BYTES:at], self._signer.digest(key, head, body)):
                return Rejection.FORGED if len(payload) > at else Rejection.TRUNCATED
        else:
            body = payload[at:]
        if head[3] & _COMPRESSED:
            if not is_there():
                return Rejection.COMPRESSED
            whole = decompressed(body)
            if whole is None:
                return Rejection.UNREADABLE
            body = whole
        try:
            return self._serializer.loads(body, kind)
        except Exception:  # noqa: BLE001 - bytes of others run other people's constructors; any failure is a miss
            return Rejection.UNREADABLE

    def _reject(self, head: bytes) -> Rejection | None:
        if len(head) < _HEAD_BYTES:
            return Rejection.TRUNCATED if head[:1] == bytes((_MAGIC,)) else Rejection.FOREIGN
        magic, version, name, flags = head
        if magic != _MAGIC or version == 0:
            return Rejection.FOREIGN
        if version > _VERSION or flags > (_SIGNED | _COMPRESSED | _TYPED):
            return Rejection.NEWER
        if bool(flags & _SIGNED) != (self._signer is not None):
            return Rejection.FORGED if flags & _SIGNED else Rejection.UNSIGNED
        return None if name == self._name else Rejection.OTHER_SERIALIZER


def needs_kind(payload: bytes) -> bool:
    """Whether bytes that `decode` reads without a type give another value than was stored."""
    return bool(payload[3] & _TYPED)


class _Signer:
    """HMAC-SHA256 with its two inner states made once: a third of the time of `hmac.digest` at 600 bytes."""

    def __init__(self, secret: bytes, scope: str) -> None:
        key = hmac.digest(secret, b"perfloop.cache.codec\0" + _as_bytes(scope), "sha256")
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, key: str, head: bytes, body: bytes) -> bytes:
        name = _as_bytes(key)
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"".join((len(name).to_bytes(4, "big"), name, head, body)))
        outer.update(inner.digest())
        return outer.digest()


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _Msgpack:
    def __init__(self) -> None:
        self._decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
        self._typed: dict[Any, bool] = {None: False}
        self._encoder = msgspec.msgpack.Encoder()
        self._plain: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder()

    def dumps(self, value: object, kind: Any) -> bytes:
        if value is None:
            return _NIL
        try:
            body = self._encoder.encode(value)
            returned = self.loads(body, kind)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"{_named(value)} cannot be stored as msgpack: {error}; {_WAY_OUT}") from None
        if not _is_same(returned, value):
            raise InvalidInput(f"{_named(value)} would come back from msgpack changed; {_WAY_OUT}")
        return body

    def needs_kind(self, kind: Any) -> bool:
        if kind not in self._typed:
            self._typed[kind] = not _is_plain(kind)
        return self._typed[kind]

    def loads(self, body: bytes, kind: Any) -> Any:
        if kind is None or body == _NIL:
            return self._plain.decode(body)
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind)
        return decoder.decode(body)


def _is_plain(kind: Any) -> bool:
    """Whether msgpack gives values of this type back without being told of it."""
    origin = get_origin(kind)
    if origin in (list, dict, Union, UnionType):
        return all(_is_plain(part) for part in get_args(kind))
    if origin is Annotated:
        return _is_plain(get_args(kind)[0])
    return any(kind is plain for plain in _PLAIN)


class _Untyped:
    """Its bytes say of which type they are."""

    def needs_kind(self, kind: Any) -> bool:
        del kind
        return False


class _Pickle(_Untyped):
    def dumps(self, value: object, kind: Any) -> bytes:
        del kind
        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:  # noqa: BLE001 - __reduce__ and __getstate__ are the user's, and raise anything
            raise InvalidInput(f"{_named(value)} cannot be pickled: {error}; cache what it holds") from None

    def loads(self, body: bytes, kind: Any) -> Any:
        del kind
        return pickle.loads(body)


class _Own(_Untyped):
    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer

    def dumps(self, value: object, kind: Any) -> bytes:
        del kind
        return self._serializer.dumps(value)

    def loads(self, body: bytes, kind: Any) -> Any:
        del kind
        return self._serializer.loads(body)


_WAY_OUT = "let the loader's return type say what it is, or kind= for a set; or use pickle with a secret"


def _serializer(given: str | Serializer) -> _Msgpack | _Pickle | _Own:
    if given == "msgpack":
        return _Msgpack()
    if given == "pickle":
        return _Pickle()
    if isinstance(given, str):
        raise InvalidInput(
            f"no serialiser is called {given!r}; there are msgpack, pickle, and your own object"
        )
    return _Own(given)


def _name(given: str | Serializer) -> int:
    return ord(given[0]) if isinstance(given, str) else ord("o")


def _is_same(returned: object, value: object) -> bool:
    """By their text where they differ, for NaN is unlike itself."""
    return bool(returned == value) or repr(returned) == repr(value)


def _named(value: object) -> str:
    return f"a value of type {type(value).__qualname__}"
