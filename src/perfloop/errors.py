"""Every error that perfloop raises on purpose.

Catch `PerfloopError` to catch them all::

    PerfloopError
    ├── InvalidInput              what was given cannot be used: a DSN, a file, an option
    │   ├── InvalidValue          a value of the model breaks its own rule
    │   └── UnsupportedStatement  a statement that cannot be analysed, or whose result cannot be kept
    ├── ServerNotFound            no PostgreSQL or Redis binaries on this machine
    ├── ServerFailed              a server that perfloop started did not come up, or died
    ├── TargetUnreachable         the target refused, timed out, or hung up
    ├── MissingRights             the role may not do what was asked
    ├── LabRefused                no lab can be made: too large, too little disk, unsafe
    ├── ChangeFailed              an act on a server failed; the message says in which state it is
    │   └── ChangeForbidden       a knob that perfloop never touches
    ├── StudyNotFound             no study or change of that name in the journal
    ├── BaselineNotFound          no baseline of that name in the journal
    ├── JournalDamaged            the journal cannot be read or written
    ├── LoadTimedOut              a loader of the cache took longer than its hard_timeout_s
    ├── ChannelClosed             the other end of a channel is gone
    ├── ChannelBroken             what comes over a channel is not of its kind
    ├── LaunchFailed              a worker, or what starts workers, could not be started
    ├── FleetFailed               a group of workers gave up, or has nobody left
    ├── FleetNotFound             no fleet answers at this place
    ├── MessageFailed             a worker could not do a message; it is not sent again
    └── StageFailed               an item failed in a stage of a pipeline that has no place for dead letters

A message states the fact and then the way out.
"""

from __future__ import annotations


class PerfloopError(Exception):
    """Base of every error raised on purpose."""


class InvalidInput(PerfloopError, ValueError):
    """What was given cannot be used."""


class InvalidValue(InvalidInput):
    """A value of the model breaks its own rule."""


class UnsupportedStatement(InvalidInput):
    """A statement that cannot be analysed, or whose result cannot be kept, and why.

    An analysis of many statements lists it and goes on; a `QueryCache` raises it to whoever asks for rows.
    """


class ServerNotFound(PerfloopError):
    """No server binaries were found on this machine."""


class ServerFailed(PerfloopError):
    """A server that perfloop started did not come up, or died."""


class TargetUnreachable(PerfloopError):
    """The target refused the connection, timed out, or hung up."""


class MissingRights(PerfloopError):
    """The role may not do what was asked."""


class LabRefused(PerfloopError):
    """No lab can be made for this target."""


class ChangeFailed(PerfloopError):
    """An act on a server failed; the message says in which state it left the server."""


class ChangeForbidden(ChangeFailed):
    """The change touches what perfloop never touches."""


class StudyNotFound(PerfloopError):
    """The journal holds no study or change of that name."""


class BaselineNotFound(PerfloopError):
    """The journal holds no baseline of that name."""


class JournalDamaged(PerfloopError):
    """The journal cannot be read or written."""


class LoadTimedOut(PerfloopError, TimeoutError):
    """A loader of the cache took longer than the hard_timeout_s of its policy."""


class ChannelClosed(PerfloopError, ConnectionError):
    """The other end of a channel is gone, or this one was closed."""


class ChannelBroken(PerfloopError):
    """What comes over a channel is not of its kind; nothing more can be read from it."""


class LaunchFailed(PerfloopError):
    """A worker, or what starts workers, could not be started."""


class FleetFailed(PerfloopError):
    """A group of workers gave up, or has nobody left."""


class FleetNotFound(PerfloopError):
    """No fleet answers at this place."""


class MessageFailed(PerfloopError):
    """A worker could not do a message, or was ended by it too often; it is not sent again."""


class StageFailed(PerfloopError):
    """An item failed in a stage of a pipeline, and nobody said what is to become of such items."""
