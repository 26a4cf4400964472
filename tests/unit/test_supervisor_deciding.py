"""What a fleet decides without a process: its file, who gets a message, which message is given up, lines."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidInput
from perfloop.process.channel.unacknowledged import Sent
from perfloop.process.supervisor.deaths import Deaths, without
from perfloop.process.supervisor.dispatching import Dispatch
from perfloop.process.supervisor.events import KEPT, EventLog
from perfloop.process.supervisor.fleet_file import parse_fleet
from perfloop.process.supervisor.memory_kills import MemoryKills
from perfloop.process.supervisor.output import CUT, LONGEST, Lines
from perfloop.process.supervisor.restarting import RestartKind, Strategy


def parsed(text: str) -> object:
    return parse_fleet(text, "bots.toml", folder="/srv/bots")


def test_a_fleet_file_says_all_of_a_group() -> None:
    fleet = parse_fleet(
        """
preload = ["json"]
control = "run/bots.sock"

[groups.feeds]
handler = "feeds.reader:read"
count = 3
strategy = "rest-for-one"
environment = { LOG = "debug" }
folder = "work"

[groups.feeds.restart]
kind = "transient"
max_restarts = 3

[groups.web]
command = ["web", "--port", "80"]
needs = ["feeds"]
ready = { http = "http://127.0.0.1:80/", within_s = 5 }
""",
        "bots.toml",
        folder="/srv/bots",
    )
    feeds, web = fleet.groups

    assert ("perfloop.process.worker", "json", "feeds.reader") == fleet.preloaded
    assert ("/srv/bots",) == fleet.path
    assert "/srv/bots/run/bots.sock" == fleet.control
    assert ("feeds", 3, Strategy.REST_FOR_ONE, "/srv/bots/work") == (
        feeds.name,
        feeds.count,
        feeds.strategy,
        feeds.folder,
    )
    assert (RestartKind.TRANSIENT, 3) == (feeds.restart.kind, feeds.restart.max_restarts)
    assert (("web", "--port", "80"), ("feeds",), 5.0) == (web.command, web.needs, web.ready.within_s)
    assert (True, False) == (feeds.overlaps, web.overlaps)


HANDLER = '[groups.bots]\nhandler = "a:b"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("groups = 3", r"bots.toml:1: there is no group; add \[groups.NAME\]"),
        ("", r"bots.toml:1: there is no group"),
        ("group = {}\n", "bots.toml:1: group is not known; there are connections, control, groups, preload"),
        ("[groups.bots\n", r"bots.toml: Expected ']'.*line 1"),
        (
            HANDLER + "cuont = 3\n",
            r"bots.toml:3: \[groups.bots\] cuont is not known; there are handler, .*count",
        ),
        (
            HANDLER + "[groups.bots.restart]\nmax = 3\n",
            r"bots.toml:4: \[groups.bots.restart\] max is not known; there are kind",
        ),
        (HANDLER + 'count = "3"\n', r"bots.toml:3: \[groups.bots\] count: expected `int`, got `str`"),
        (HANDLER + "count = -1\n", r"bots.toml:3: \[groups.bots\] count: from 0 to 1000"),
        (HANDLER + f"count = {10**20}\n", r"bots.toml:3: \[groups.bots\] count: from 0 to 1000"),
        (HANDLER + "[groups.bots.scaling]\nhighest = 1001\n", "bots.toml:4: .*highest: from 1 to 1000"),
        (
            HANDLER + "\nrestart = { kind = 'never' }\n",
            r"bots.toml:4: \[groups.bots.restart\] kind: invalid enum value 'never'",
        ),
        (HANDLER + "[groups.bots.restart]\nfactor = 0.5\n", r"bots.toml:4: .*factor: at least 1"),
        (HANDLER + 'command = ["x"]\n', "one of handler, target and command has to be there"),
        ("[groups.bots]\ncount = 1\n", "one of handler, target and command has to be there"),
        ('[groups.bots]\nhandler = "a.b"\n', r"bots.toml:2?.*a.b: not of the form module:function"),
        ('[groups.bots]\ncommand = "web"\n', r'bots.toml:2: .*command has to be a list, as \["python"'),
        (HANDLER + 'needs = ["web"]\n', r"bots needs web, which is no group; there are bots"),
        (HANDLER + 'needs = ["bots"]\n', "need each other in a circle: bots -> bots"),
        ('[groups."a b"]\nhandler = "a:b"\n', "a b is no name of a group; use letters, digits, - and _"),
        ("[groups]\nbots = 3\n", r"bots.toml:2: .*bots has to be a table"),
        (HANDLER + 'name = "web"\n', "bots.toml:3: .*the name stands in"),
        ('preload = "json"\n' + HANDLER, "bots.toml:1: preload has to be a list of modules"),
        (HANDLER + "ready = { output = '(' }\n", r"output: \( is no regular expression"),
        (HANDLER + "ready = { output = 'x', delay_s = 1 }\n", "at most one of them"),
        (HANDLER + "stop = { signal = 'KILL' }\n", "signal: one of TERM, INT"),
        (HANDLER + "ready = { http = 'localhost/up' }\n", "http: localhost/up is no URL of http or https"),
        (HANDLER + "health = { http = 'http://:80/' }\n", "http: http://:80/ is no URL"),
        (HANDLER + "health = { http = 'http://a:b/' }\n", "http: http://a:b/ is no URL"),
        ("connections = 3\n" + HANDLER, "bots.toml:1: .*expected `object`, got `int`"),
        (
            "[connections]\nmax_connection = 3\n" + HANDLER,
            r"bots.toml:2: \[connections\] max_connection is not known; there are max_connections, reserved",
        ),
        ("[connections]\nmax_connections = 3\n" + HANDLER, "bots.toml:1: .*3 of 3 connections are reserved"),
        (
            "[connections]\nmax_connections = 23\n" + HANDLER + "count = 3\npool_size = 7\n",
            "bots.toml:1: connections: 21 are wanted at least, and there are 20",
        ),
        (HANDLER + "pool_size = 7\n", "pool_size: of bots, but connections are not given"),
        (
            HANDLER + "[groups.bots.scaling.season]\nperiods = 7\n",
            r"bots.toml:4: \[groups.bots.scaling.season\] periods is not known; there are period_s",
        ),
        ("[groups.bots]\ncommand = []\n", "one of handler, target and command has to be there"),
        ("[groups.bots]\ncommand = [1]\n", r"bots.toml:2: .*command: expected `str`, got `int`"),
        (HANDLER + "environment = { A = 1 }\n", r"bots.toml:3: .*expected `str`, got `int`"),
        (HANDLER + "environment = { A = 1 }\n", r"\[groups.bots\] environment: expected `str`, got `int`$"),
        ("\n[groups.bots]\ncount = 1\n", r"bots.toml:2: \[groups.bots\] one of handler, target and command"),
        (
            HANDLER + "[groups.bots.restart]\nkind = 'always'\n",
            "bots.toml:4: .*'always'; there are permanent, transient, temporary$",
        ),
        (HANDLER + "strategy = 'all'\n", "'all'; there are one-for-one, one-for-all, rest-for-one$"),
        (
            HANDLER + "[groups.bots-1]\nhandler = 'a:b'\n",
            r"bots.toml:3: \[groups.bots-1\] bots-1 would be a worker of bots, too; give this group another",
        ),
        (HANDLER + "needs = 'bots'\n", r"bots.toml:3: .*needs: expected `array`, got `str`"),
        (HANDLER + "control = 'x'\n", r"bots.toml:3: .*control is not known"),
        (
            HANDLER + "needs = ['web']\n[groups.web]\ncommand = ['x']\nneeds = ['bots']\n",
            "need each other in a circle: .*bots -> web|web -> bots",
        ),
    ],
)
def test_what_is_not_understood_in_a_file_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        parsed(text)


class Worker:
    def __init__(self, under_way: int = 0, *, has_room: bool = True) -> None:
        self.under_way = under_way
        self.has_room = has_room


def test_the_worker_with_the_fewest_messages_gets_the_next() -> None:
    workers = [Worker(3), Worker(1), Worker(0, has_room=False), Worker(2)]

    assert workers[1] is Dispatch[Worker]().choose(workers, None)


def test_equal_workers_take_turns() -> None:
    dispatch, workers = Dispatch[Worker](), [Worker(), Worker(), Worker()]

    assert set(workers) == {dispatch.choose(workers, None) for _ in range(3)}


def test_a_key_stays_with_its_worker_while_a_message_of_it_is_under_way() -> None:
    dispatch, busy, idle = Dispatch[Worker](), Worker(9), Worker()
    dispatch.sent(1, "a", busy)
    dispatch.sent(2, "a", busy)
    dispatch.done(1, 1)

    assert busy is dispatch.choose([busy, idle], "a")
    busy.has_room = False
    assert dispatch.choose([busy, idle], "a") is None
    dispatch.done(2, 2)
    assert idle is dispatch.choose([busy, idle], "a")


def test_a_key_goes_with_what_was_left_of_it() -> None:
    dispatch, old, new = Dispatch[Worker](), Worker(), Worker(9)
    dispatch.sent(1, "a", old)
    dispatch.moved([1, 2], new)

    assert new is dispatch.choose([old, new], "a")


def test_workers_that_do_several_at_once_get_one_message_of_a_key() -> None:
    dispatch, worker = Dispatch[Worker](is_serial=True), Worker()
    dispatch.sent(1, "a", worker)

    assert dispatch.choose([worker], "a") is None
    assert worker is dispatch.choose([worker], "b")


def sent(first_id: int, *messages: object) -> Sent:
    return Sent(first_id, len(messages), msgspec.msgpack.encode(messages))


def test_a_message_is_given_up_when_its_worker_died_as_often_as_may_be() -> None:
    deaths, left = Deaths(3), [sent(5, "a", "b")]

    assert deaths.died(None, left) is None
    assert deaths.died(6, left) is None
    assert 6 == deaths.died(6, left)


def test_a_message_that_was_done_before_its_worker_died_is_not_blamed() -> None:
    deaths, left = Deaths(2), [sent(5, "a", "b")]
    left[0].acknowledge(5, 5)

    assert deaths.died(5, left) is None
    assert 6 == deaths.died(6, left)


def test_a_message_is_taken_out_of_what_was_left() -> None:
    rest, message = without([sent(5, "a", "b", "c"), sent(9, "d")], 6)

    assert "b" == message
    assert [(5, ["a"]), (7, ["c"]), (9, ["d"])] == [
        (each.first_id, msgspec.msgpack.decode(each.body)) for each in rest
    ]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")), st.integers(1, 9))
def test_lines_are_the_same_however_they_come(text: str, size: int) -> None:
    told: list[str] = []
    lines = Lines(told.append)
    written = f"first\r\n{text}\nlast".encode()
    for at in range(0, len(written), size):
        lines.add(written[at : at + size])
    lines.end()

    assert ["first", text, "last"] == told


def test_a_long_line_is_told_in_parts_and_what_is_no_text_as_it_is() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    lines.add(b"x" * (2 * LONGEST + 3))
    lines.add(b"y\n\xff\n")

    assert ["x" * LONGEST + CUT, "x" * LONGEST + CUT, "xxxy", "\\xff"] == told


def test_deaths_are_of_a_shortage_of_memory_where_the_system_has_just_killed_for_one() -> None:
    now_s, count = 0.0, 3
    kills = MemoryKills(lambda: count, clock=lambda: now_s)

    assert not kills.look()  # of others, before
    count = 5
    assert [True, True] == [kills.look(), kills.look()]  # both ends are told one after another
    now_s = 2.0
    assert not kills.look()
    assert not MemoryKills(lambda: None, clock=lambda: now_s).look()


def test_the_newest_events_are_kept_with_their_numbers() -> None:
    log = EventLog(clock=lambda: 7.0)
    for number in range(KEPT + 5):
        log.add("ended", "bots-1", "by SIGKILL", before={"pid": number}, after={"in_s": 1})

    assert [KEPT + 4, KEPT + 5] == [each.number for each in log.newest(2)]
    assert KEPT == len(log.newest())
    assert f"ended: by SIGKILL; pid {KEPT + 4}; in_s 1" == log.newest(1)[0].text()
