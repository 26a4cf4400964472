"""Values as people write them against values as pg_settings shows them."""

from __future__ import annotations

import pytest

from perfloop.database.knobs import in_unit, same_value
from perfloop.errors import InvalidInput
from perfloop.model.target import Setting


def live(kind: str, value: str, unit: str | None = None) -> Setting:
    return Setting(name="some_setting", value=value, unit=unit, context="user", kind=kind)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (live("integer", "65536", "kB"), "64MB"),
        (live("integer", "65536", "kB"), "65536"),
        (live("integer", "16384", "8kB"), "128MB"),
        (live("integer", "300", "s"), "5min"),
        (live("integer", "1024", "MB"), "1GB"),
        (live("integer", "1536", "MB"), "1.5GB"),
        (live("integer", "-1", "kB"), "-1"),
        (live("real", "2", "ms"), "2000us"),
        (live("real", "1.1"), "1.10"),
        (live("real", "100000"), "1e5"),
        (live("bool", "on"), "TRUE"),
        (live("bool", "off"), "0"),
        (live("enum", "pglz"), "PGLZ"),
        (live("string", "a, b"), "a, b"),
    ],
)
def test_two_spellings_of_one_value_are_the_same(setting: Setting, text: str) -> None:
    assert same_value(setting, text)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (live("integer", "65536", "kB"), "64"),
        (live("real", "1.1"), "1.2"),
        (live("bool", "on"), "off"),
        (live("enum", "pglz"), "lz4"),
        (live("string", "A"), "a"),
    ],
)
def test_different_values_differ(setting: Setting, text: str) -> None:
    assert not same_value(setting, text)


@pytest.mark.parametrize(
    ("setting", "text"),
    [(live("bool", "on"), "perhaps"), (live("integer", "1"), "1kB"), (live("real", "1"), "")],
)
def test_what_the_server_would_not_read_is_refused(setting: Setting, text: str) -> None:
    with pytest.raises(InvalidInput, match="some_setting"):
        in_unit(setting, text)
