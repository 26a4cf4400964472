"""Which proposals are tried, where there are more of them than trials."""

from __future__ import annotations

from perfloop.model.advice import Change, CreateIndex, Proposal, SetTableOptions
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.advisor.seats import Group, Seated, seat

ORDERS = TableName(schema="public", name="orders")


def group(letter: str, count: int, *, is_chosen: bool = False, is_second: bool = False) -> Group:
    changes = (new_index(ORDERS, (IndexKey(text=f"{letter}{number}"),)) for number in range(1, count + 1))
    return Group(proposals=proposals(*changes), is_chosen=is_chosen, is_second=is_second)


def proposals(*changes: Change) -> tuple[Proposal, ...]:
    return tuple(Proposal(change=each, reason="a test") for each in changes)


def seated(found: Seated) -> str:
    changes = [each.change for each in found.proposals]
    return " ".join(each.keys[0].text for each in changes if isinstance(each, CreateIndex))


def test_where_there_is_room_all_are_tried() -> None:
    found = seat((group("a", 1), group("b", 2), group("c", 6, is_second=True)), most=9)

    assert "a1 b1 b2 c1 c2 c3 c4 c5 c6" == seated(found)
    assert () == found.cut


def test_the_chosen_indexes_stay_though_theirs_is_the_longest_group() -> None:
    found = seat((group("a", 3), group("b", 7, is_chosen=True), group("c", 4)), most=12)

    assert "a1 a2 a3 b1 b2 b3 b4 b5 b6 b7 c1 c2" == seated(found)


def test_beyond_two_thirds_of_the_seats_the_chosen_share_with_the_others() -> None:
    found = seat((group("a", 4), group("b", 20, is_chosen=True)), most=9)

    assert "a1 a2 b1 b2 b3 b4 b5 b6 b7" == seated(found)


def test_of_a_single_trial_the_first_chosen_index_is_the_one() -> None:
    found = seat((group("a", 3), group("b", 3, is_chosen=True), group("c", 3)), most=1)

    assert "b1" == seated(found)


def test_second_choices_go_first_and_untold_but_for_a_few() -> None:
    found = seat((group("a", 5, is_chosen=True), group("b", 9, is_second=True), group("c", 2)), most=10)

    assert "a1 a2 a3 a4 a5 b1 b2 b3 c1 c2" == seated(found)
    assert 1 == len(found.cut)


def test_each_that_is_cut_is_told() -> None:
    found = seat((group("a", 2), group("b", 1)), most=2)

    reason = "since others come first; allow more trials"

    assert "a1 b1" == seated(found)
    assert (f"create index on orders (a2) is not tried, {reason}",) == found.cut


def test_what_no_lab_can_show_takes_no_seat() -> None:
    options = ("autovacuum_enabled=true",), ("autovacuum_vacuum_scale_factor=0.02",)
    upkeep = Group(proposals=proposals(*(SetTableOptions(table=ORDERS, options=each) for each in options)))
    found = seat((group("a", 2), upkeep), most=2)

    assert ("a1 a2", 4, ()) == (seated(found), len(found.proposals), found.cut)
