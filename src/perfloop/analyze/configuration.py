"""Settings that are wrong whatever the workload; what depends on it is for trials, not for rules.

Nothing is said of a setting that merely differs from a preset: no random_page_cost without plans
that suffer from it, no larger cache for a database that fits.
"""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Setting
from perfloop.model.units import bytes_text, setting_bytes, share_text

SMALL_BUFFERS_BYTES = 128 * 1024**2
"""What initdb sets on nearly every machine."""
SMALL_BUFFERS_RATIO = 0.05
"""Of the machine's memory; presets ask for 0.25."""
LARGER_DATABASE_FACTOR = 4

_MUST_BE_ON = {
    "autovacuum": "tables and indexes grow, statistics age, and transaction ids run out",
    "track_counts": "autovacuum sees no table that needs it, and nobody can tell which index is used",
    "fsync": "a crash of the machine can destroy the whole cluster",
    "full_page_writes": "a crash of the machine can leave pages half written, beyond repair",
}


def unsafe_settings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Settings that must be on, and are off."""
    return tuple(
        Finding(
            check="unsafe-setting",
            severity=Severity.HIGH,
            title=f"{name} is off: {harm}",
            location=name,
            evidence=(Evidence(label="set by", value=setting.source),),
            would_try=f"nothing in a lab: {name} = on, after a reload",
        )
        for name, harm in _MUST_BE_ON.items()
        if (setting := snapshot.setting(name)) is not None and setting.value == "off"
    )


def pending_restart(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Settings in the configuration file that the running server does not have."""
    waiting = [each for each in snapshot.settings if each.pending_restart]
    if not waiting:
        return ()
    names = ", ".join(each.name for each in waiting)
    return (
        Finding(
            check="pending-restart",
            severity=Severity.LOW,
            title=f"The server was not restarted since its configuration changed: {names}",
            location="pending restart",
            evidence=tuple(Evidence(label=each.name, value=f"{_shown(each)} until then") for each in waiting),
            would_try="nothing in a lab: restart the server when it suits, or take the line back",
        ),
    )


def small_shared_buffers(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The cache that initdb chose, on a large machine, under a database that does not fit into it."""
    size, memory_bytes = setting_bytes(snapshot.setting("shared_buffers")), snapshot.host.memory_bytes
    if size is None or not snapshot.host.runs_server or memory_bytes <= 0:
        return ()
    is_small = size <= SMALL_BUFFERS_BYTES and size <= SMALL_BUFFERS_RATIO * memory_bytes
    if not is_small or snapshot.activity.database_bytes < LARGER_DATABASE_FACTOR * size:
        return ()
    return (
        Finding(
            check="small-shared-buffers",
            severity=Severity.LOW,
            title=(
                f"shared_buffers is {bytes_text(size)}, {share_text(size / memory_bytes)} of the memory,"
                f" for a database of {bytes_text(snapshot.activity.database_bytes)}"
            ),
            location="shared_buffers: size",
            evidence=(Evidence(label="memory", value=bytes_text(memory_bytes)),),
            would_try="a quarter of the memory for shared_buffers, after a restart",
        ),
    )


def _shown(setting: Setting) -> str:
    size = setting_bytes(setting) if setting.unit and "B" in setting.unit else None
    return setting.value if size is None else bytes_text(size)
