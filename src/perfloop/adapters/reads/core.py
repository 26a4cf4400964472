"""Where SQLAlchemy's connections are defined: they are told by name, for it need not be installed."""

from __future__ import annotations

from typing import Final

AsyncCoreConnection: Final = "sqlalchemy.ext.asyncio.engine.AsyncConnection"
CoreConnection: Final = "sqlalchemy.engine.base.Connection"


def is_of(connection: object, name: str) -> bool:
    """Whether a connection is of the class of that full name, or of a class made from it."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == name for kind in type(connection).__mro__)
