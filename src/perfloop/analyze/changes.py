"""What has changed on a target since a Baseline, apart from its statements: settings, indexes, sizes."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.baseline import Baseline
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, Setting, TableName
from perfloop.model.units import bytes_text, count_text
from perfloop.model.value import Value

GROWN_RATIO = 1.5
MUCH_GROWN_RATIO = 3.0
GROWN_BYTES = 8 * 1024**2
"""A table that grew by less is no finding, whatever the ratio."""


class SettingChange(Value, frozen=True, kw_only=True):
    """A setting with its values, as the server shows them."""

    name: str
    before: str
    now: str


class Growth(Value, frozen=True, kw_only=True):
    """A table that has grown."""

    table: TableName
    rows: tuple[float, float]
    size_bytes: tuple[int, int]

    @property
    def ratio(self) -> float:
        """Of the size, now over before."""
        return self.size_bytes[1] / max(1, self.size_bytes[0])


def kept_settings(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """What a Baseline holds of the settings: those unlike the server's own defaults, without free texts."""
    return tuple(
        each
        for each in settings
        if each.kind != "string" and each.context != "internal" and each.value != each.boot_value
    )


def changed_settings(snapshot: Snapshot, baseline: Baseline) -> tuple[SettingChange, ...]:
    """Settings whose value is another than then. One that is gone with a new major version is none."""
    then = {each.name: each for each in baseline.settings}
    found = []
    for now in snapshot.settings:
        if now.kind == "string" or now.context == "internal":
            continue
        earlier = then.get(now.name)
        before = now.boot_value if earlier is None else earlier.value
        if before is not None and before != now.value:
            found.append(SettingChange(name=now.name, before=_shown(before, now), now=_shown(now.value, now)))
    return tuple(found)


def dropped_indexes(snapshot: Snapshot, baseline: Baseline) -> tuple[Index, ...]:
    """Indexes of then whose definition no index has now, whatever its name."""
    there = {_definition(each) for each in snapshot.indexes if each.is_valid}
    return tuple(each for each in baseline.indexes if each.is_valid and _definition(each) not in there)


def added_indexes(snapshot: Snapshot, baseline: Baseline) -> tuple[Index, ...]:
    """Indexes of now whose definition none had then."""
    then = {_definition(each) for each in baseline.indexes if each.is_valid}
    return tuple(each for each in snapshot.indexes if each.is_valid and _definition(each) not in then)


def grown_tables(snapshot: Snapshot, baseline: Baseline) -> tuple[Growth, ...]:
    """Tables that have grown by at least half, and by some megabytes, the largest growth first."""
    found = []
    for then in baseline.tables:
        now = snapshot.table(then.name)
        if now is None or now.size_bytes - then.size_bytes < GROWN_BYTES:
            continue
        growth = Growth(
            table=then.name, rows=(then.rows, now.rows), size_bytes=(then.size_bytes, now.size_bytes)
        )
        if growth.ratio >= GROWN_RATIO:
            found.append(growth)
    return tuple(sorted(found, key=lambda each: -each.ratio))


def findings_of_changes(snapshot: Snapshot, baseline: Baseline) -> Iterator[Finding]:
    """A Finding for each change of the target itself. Alone they prove no loss, so none is HIGH."""
    if snapshot.settings:
        yield from map(_setting_finding, changed_settings(snapshot, baseline))
    tables = {each.name for each in snapshot.tables}
    for index in dropped_indexes(snapshot, baseline):
        if index.table in tables:
            yield _dropped_finding(index)
    yield from map(_added_finding, added_indexes(snapshot, baseline))
    yield from map(_growth_finding, grown_tables(snapshot, baseline))


def _shown(value: str, setting: Setting) -> str:
    """A value with its unit; 8kB pages and kilobytes become megabytes as people write them."""
    units = {"B": 1, "kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3}
    if setting.unit in units and value.isdecimal() and int(value) > 0:
        return bytes_text(int(value) * units[setting.unit])
    return f"{value} {setting.unit}" if setting.unit and setting.unit not in units else value


def _definition(index: Index) -> str:
    """The definition without the index's name, which a rebuild may change."""
    return index.definition.replace(f" {index.name} ON ", " ON ", 1)


def _setting_finding(change: SettingChange) -> Finding:
    return Finding(
        check="setting-changed",
        severity=Severity.LOW,
        title=f"{change.name} was {change.before} and is {change.now}",
        location=change.name,
        evidence=(
            Evidence(label="before", value=change.before),
            Evidence(label="now", value=change.now),
        ),
        would_try="nothing by itself; whether it costs time, the statements' findings say",
    )


def _dropped_finding(index: Index) -> Finding:
    scans = Evidence(label="scans by then", value=count_text(index.scans))
    return Finding(
        check="index-dropped",
        severity=Severity.MEDIUM if index.scans else Severity.LOW,
        title=f"index {index.name} on {index.table} is gone",
        location=f"{index.table}: {index.name}",
        evidence=(scans, Evidence(label="size then", value=bytes_text(index.size_bytes))),
        would_try=f"{index.definition}, if a statement misses it",
    )


def _added_finding(index: Index) -> Finding:
    return Finding(
        check="index-added",
        severity=Severity.LOW,
        title=f"index {index.name} on {index.table} is new",
        location=f"{index.table}: {index.name}",
        evidence=(Evidence(label="scans so far", value=count_text(index.scans)),),
        would_try="nothing; writes to the table pay for it",
        space_bytes=index.size_bytes,
    )


def _growth_finding(growth: Growth) -> Finding:
    sizes = " → ".join(bytes_text(each) for each in growth.size_bytes)
    rows = " → ".join(count_text(max(0.0, each)) for each in growth.rows)
    return Finding(
        check="table-grown",
        severity=Severity.MEDIUM if growth.ratio >= MUCH_GROWN_RATIO else Severity.LOW,
        title=f"{growth.table} has grown to {growth.ratio:.1f} times its size",
        location=str(growth.table),
        evidence=(Evidence(label="size", value=sizes), Evidence(label="rows", value=rows)),
        would_try="nothing by itself; if the rows have not grown as much, look for dead rows",
        space_bytes=growth.size_bytes[1] - growth.size_bytes[0],
    )
