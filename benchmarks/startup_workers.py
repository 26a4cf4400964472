"""What the workers of benchmarks/startup.py import and do."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

# redis loads OpenTelemetry where it finds it, and here tests need it: a sixth more than what is measured.
sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # how Python is told that there is no such module

import httpx  # noqa: E402  # after the line above
import psycopg  # noqa: E402
import pydantic  # noqa: E402
import redis  # noqa: E402

LOADED = (httpx, psycopg, redis)


class Order(pydantic.BaseModel):  # type: ignore[misc]  # pydantic is skipped, see pyproject.toml
    """What a message says."""

    user: int
    words: list[str]


def answer(message: dict[str, Any]) -> int:
    """A first useful reply: a validated message, and who has done it."""
    assert Order.model_validate(message).user == message["user"]
    return os.getpid()


def over_channel(name: str, channel: int) -> None:
    """Answer a byte with a process id until the other end is gone."""
    with socket.socket(fileno=channel) as end:
        while end.recv(1):
            end.sendall(answer({"user": 7, "words": ["a", "b"]}).to_bytes(4, "little"))
