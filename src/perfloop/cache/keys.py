"""Keys and tags from the arguments of a call: templates, bound to a function's signature once.

`"user:{user_id}"` names parameters, `"order:{order.id}"` attributes of them. Two calls whose named arguments
differ, in value or in type, never share a key: text is escaped where it could be taken for something else.
Tags are not escaped.

>>> def price(product: int, currency: str = "EUR") -> int: ...
>>> key = bound_key("price:{product}:{currency}", price)
>>> key(7), key(7, currency="a:b"), key("7")
('price:7:EUR', 'price:7:a%3Ab', "price:'7:EUR")
"""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import itertools
import re
import string
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from perfloop.errors import InvalidInput

Part = str | tuple[str, ...]
"""Literal text, or a parameter with the attributes to follow."""
Writer = Callable[[object], str]
"""Makes the text of a value."""
RESERVED: Final = frozenset({"None", "True", "False", "inf", "nan"})
TYPED: Final = (
    uuid.UUID,
    decimal.Decimal,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)


class Escaping:
    """How the values of one template are written, given the characters that part them."""

    def __init__(self, separators: str = "") -> None:
        self._unsafe = re.compile(rf"[^\w.\-]|[{re.escape(separators)}]" if separators else r"[^\w.\-]")

    def text(self, value: object) -> str:
        """One value, so that no other value of any type is written alike.

        Raises:
            InvalidInput: Nothing says what of the value tells it from others.
        """
        kind = type(value)
        if kind is int or kind is bool or value is None:
            return str(value)
        if kind is str:
            return self._quoted(str(value))
        if kind is float:
            return self._escaped(repr(value))
        return self._structured(value, kind)

    def _structured(self, value: object, kind: type) -> str:
        if isinstance(value, enum.Enum):
            return f"{kind.__qualname__}({self._escaped(value.name)})"
        if kind in TYPED:
            return f"{kind.__name__}({self._escaped(str(value))})"
        if isinstance(value, bytes):
            return f"bytes({value.hex()})"
        if isinstance(value, tuple | list):
            return f"{kind.__qualname__}({','.join(self.text(each) for each in value)})"
        if isinstance(value, frozenset | set):
            return f"set({','.join(sorted(self.text(each) for each in value))})"
        raise InvalidInput(
            f"a {kind.__qualname__} cannot be part of a key; name what tells it from others: {{argument.id}}"
        )

    def _quoted(self, text: str) -> str:
        escaped = self._escaped(text)
        first = text[:1]
        plain = (first.isalpha() or first == "_") and text not in RESERVED
        return escaped if plain else f"'{escaped}"

    def _escaped(self, text: str) -> str:
        return self._unsafe.sub(_percent, text)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


def parsed(template: str) -> tuple[Part, ...]:
    """The parts of a template.

    Raises:
        InvalidInput: It cannot be parsed, or two of its fields could run together.
    """
    parts: list[Part] = []
    try:
        for literal, field, form, conversion in string.Formatter().parse(template):
            if form or conversion:
                raise InvalidInput(
                    f"{template!r}: {{{field}}} takes no format; a key is made of whole values"
                )
            parts += [literal] if literal else []
            parts += [tuple(field.split("."))] if field is not None else []
    except ValueError as error:
        raise InvalidInput(f"{template!r} is no template: {error}") from None
    _require_separators(template, parts)
    return tuple(parts)


def _require_separators(template: str, parts: list[Part]) -> None:
    fields = [at for at, part in enumerate(parts) if isinstance(part, tuple)]
    for one, next_one in itertools.pairwise(fields):
        between = "".join(str(part) for part in parts[one + 1 : next_one])
        if not re.search(r"[^0-9A-Za-z]", between):
            raise InvalidInput(
                f"{template!r}: {between!r} parts no two fields: 1 and 23 would be 12 and 3; put a ':'"
            )


def separators_of(parts: Iterable[Part]) -> str:
    """The characters that values of these parts may not contain."""
    text = "".join(part for part in parts if isinstance(part, str))
    return "".join(sorted({sign for sign in text if not sign.isalnum()}))


def bound_key(template: str, function: Callable[..., Any]) -> Callable[..., str]:
    """The key of a call of the function, from its arguments; as strict about them as the function is.

    Raises:
        InvalidInput: The template names what is no parameter of the function.
    """
    key: Callable[..., str] = _compiled(function, lambda write: write(template), _escaping)
    return key


def bound_tags(templates: Iterable[str], function: Callable[..., Any]) -> Callable[..., tuple[str, ...]]:
    """The tags of a call; a value is written by `str` and no more, as who clears a tag by hand writes it.

    Nothing is escaped: two tags that read alike clear too much together, and never too little.

    >>> def user(user_id: str) -> None: ...
    >>> bound_tags(("user-{user_id}",), user)("ada@example.org")
    ('user-ada@example.org',)
    """
    given = tuple(templates)
    tags: Callable[..., tuple[str, ...]] = _compiled(
        function,
        lambda write: f"({', '.join(write(template) for template in given)}{',' if given else ''})",
        lambda parts: str,
    )
    return tags


def _escaping(parts: Sequence[Part]) -> Writer:
    return Escaping(separators_of(parts)).text


def _compiled(
    function: Callable[..., Any],
    body: Callable[[Callable[[str], str]], str],
    writer_for: Callable[[Sequence[Part]], Writer],
) -> Any:
    """A function of the same parameters that returns the body, its values as the writer writes them.

    Compiled, since a signature's `bind` takes longer than all else that a hit does. Names in the source are
    those of parameters, which are identifiers; all else goes in by reference.
    """
    signature = inspect.signature(function)
    # By names of ours: a parameter may be called `str` or `int`.
    scope: dict[str, Any] = {"_escape_text": str, "_escape_int": int}

    def write(template: str) -> str:
        parts = parsed(template)
        escape = f"_escape{len(scope)}"
        scope[escape] = writer_for(parts)
        return _expression(template, parts, signature, escape)

    source = f"def {_name(function)}({_parameters(signature, scope)}):\n    return {body(write)}\n"
    exec(source, scope)
    return scope[_name(function)]


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "call")
    return name if name.isidentifier() and not name.startswith("_escape") else "call"


def _parameters(signature: inspect.Signature, scope: dict[str, Any]) -> str:
    written = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if default is not inspect.Parameter.empty:
            name = f"_default{len(scope)}"
            scope[name] = default
            parameter = parameter.replace(default=_Named(name))
        written.append(parameter.replace(annotation=inspect.Parameter.empty))
    return str(inspect.Signature(written))[1:-1]


class _Named:
    """A default as the source names it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


def _expression(template: str, parts: tuple[Part, ...], signature: inspect.Signature, escape: str) -> str:
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(repr(part))
            continue
        _require_parameter(template, part, signature)
        value = ".".join(part)
        if len(part) == 1:
            written.append(
                f"(_escape_text({value}) if {value}.__class__ is _escape_int else {escape}({value}))"
            )
        else:
            written.append(f"{escape}({value})")
    return " + ".join(written) or "''"


def _require_parameter(template: str, part: tuple[str, ...], signature: inspect.Signature) -> None:
    parameter = signature.parameters.get(part[0])
    if parameter is None:
        known = ", ".join(signature.parameters) or "none"
        raise InvalidInput(f"{template!r} names {part[0]!r}, which is no parameter; there are: {known}")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        raise InvalidInput(f"{template!r}: {part[0]!r} has any names; give those of the key as parameters")
    if not all(name.isidentifier() for name in part):
        raise InvalidInput(f"{template!r}: {'.'.join(part)!r} is neither a parameter nor attributes of one")


def member_key(template: str) -> Callable[[Any], str]:
    """The key of one member of a batch: the template has one `{}`.

    >>> member_key("product:{}")(7)
    'product:7'

    Raises:
        InvalidInput: It has none, or several, or a named one.
    """
    return _of_member(template, _escaping)


def member_tag(template: str) -> Callable[[Any], str]:
    """The tag of one member, in which nothing is escaped; the same for all where the template has no `{}`.

    Raises:
        InvalidInput: It has several, or a named one.
    """
    return _of_member(template, lambda parts: str) if "{" in template else lambda member: template


def _of_member(template: str, writer_for: Callable[[Sequence[Part]], Writer]) -> Callable[[Any], str]:
    parts = parsed(template)
    fields = [part for part in parts if isinstance(part, tuple)]
    if fields != [("",)]:
        raise InvalidInput(f"{template!r} needs one {{}}, for the member")
    at = parts.index(("",))
    before, after = "".join(map(str, parts[:at])), "".join(map(str, parts[at + 1 :]))
    text = writer_for(parts)

    def written(member: Any) -> str:
        return f"{before}{member if member.__class__ is int else text(member)}{after}"

    return written
