"""The list of keys that outlives the process."""

from __future__ import annotations

import random
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.cache.key_list import KeyList, KeyListGain, KeyListPolicy, rest_s
from perfloop.cache.key_list_file import read_keys, write_keys
from perfloop.cache.key_ranks import KeyRanks, load_order
from perfloop.errors import InvalidValue

LIST = KeyList(keys=("user:7", "user:8", "über:ключ"), saved_unix_s=1_795_000_000.0)


def test_a_list_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, LIST)
    read = read_keys(path, KeyListPolicy())

    assert (LIST, "") == (read.found, read.note)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_list_that_was_cut_anywhere_starts_cold_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, LIST)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        read = read_keys(path, KeyListPolicy())

        assert KeyList() == read.found
        assert read.note.startswith("starts cold")


def test_a_list_with_one_bit_turned_starts_cold(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, LIST)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])

        assert KeyList() == read_keys(path, KeyListPolicy()).found


@given(st.binary(max_size=200), st.booleans())
def test_a_file_of_strangers_starts_cold(content: bytes, has_our_start: bool) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write((b"perfloop keys 1\n" if has_our_start else b"") + content)
        file.flush()

        assert KeyList() == read_keys(Path(file.name), KeyListPolicy()).found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"perfloop keys 0\n" + b"x" * 64, "another version"),
        (b"", "no list of keys"),
        (b"perfloop keys 1\n" + b"x" * 64, "damaged"),
    ],
)
def test_the_note_says_what_is_wrong_with_the_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)

    assert reason in read_keys(path, KeyListPolicy()).note


def test_a_file_that_is_missing_a_folder_or_too_large_starts_cold(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, LIST)

    assert "there is no" in read_keys(tmp_path / "nothing", KeyListPolicy()).note
    assert "cannot be read" in read_keys(tmp_path, KeyListPolicy()).note
    assert "more than 50 bytes" in read_keys(path, KeyListPolicy(max_bytes=50)).note


def test_a_write_that_fails_leaves_the_older_list_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, LIST)
    unwritable = KeyList(keys=("\ud800",))
    with pytest.raises(UnicodeEncodeError):
        write_keys(path, unwritable)
    path.with_name("folder").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - the system words it
        write_keys(path.with_name("folder"), LIST)

    assert LIST == read_keys(path, KeyListPolicy()).found
    assert ["folder", "keys"] == sorted(each.name for each in tmp_path.iterdir())


def test_no_more_keys_are_taken_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, KeyList(keys=tuple(f"k{number}" for number in range(100))))

    assert ("k0", "k1", "k2") == read_keys(path, KeyListPolicy(max_keys=3)).found.keys


def test_what_was_held_longer_and_visited_more_ranks_higher() -> None:
    ranks = KeyRanks(max_keys=10)
    for look in range(5):
        ranks.fade(0.1)
        ranks.add([("quiet", 0), ("busy", 3)] + ([("new", 3)] if look == 4 else []))

    assert ["busy", "quiet", "new"] == [key for key, _ in ranks.ranked()]


def test_points_halve_in_a_half_life() -> None:
    ranks = KeyRanks(max_keys=10)
    ranks.add([("once", 3)])
    ranks.fade(1.0)

    assert [("once", 2.0)] == ranks.ranked()


@given(
    st.lists(st.lists(st.tuples(st.text(max_size=2), st.integers(0, 5)), max_size=30), max_size=30),
    st.integers(1, 10),
    st.floats(0.5, 1e6),
)
def test_the_ranks_keep_their_bound_and_order(
    looks: list[list[tuple[str, int]]], max_keys: int, half_life: float
) -> None:
    ranks = KeyRanks(max_keys=max_keys)
    for look in looks:
        ranks.fade(10_000 / half_life)
        ranks.add(look)

        assert len(ranks) <= 1.25 * max_keys + len(look)
    points = [each for _, each in ranks.ranked()]

    assert len(points) <= max_keys
    assert sorted(points, reverse=True) == points


def test_the_least_of_the_keys_come_first_since_the_first_tenth_is_on_probation() -> None:
    ranked = [f"k{number}" for number in range(20)]

    assert ["k18", "k19", *ranked[:18]] == load_order(ranked, 20)
    assert ["k0"] == load_order(["k0"], 20)
    assert ["k9", *ranked[:9]] == load_order(ranked, 10)
    assert [] == load_order([], 10)


def test_the_loaders_get_the_rate_that_was_set_and_half_of_the_time_at_most() -> None:
    policy = KeyListPolicy(loaded_rows_per_s=100)

    assert 0.9 == pytest.approx(rest_s(policy, rows=100, elapsed_s=0.1))
    assert 3.0 == rest_s(policy, rows=100, elapsed_s=3.0)


def test_the_hit_ratio_without_the_list_is_that_of_the_keys_held_back() -> None:
    trial = KeyListGain(KeyListPolicy(), salt=11)
    draw = random.Random(12)
    loaded = {f"k{number}" for number in range(20_000) if not trial.holds(f"k{number}")}
    requests = misses = 0
    for number in range(20_000):  # each key is asked for three times
        for _ in range(3):
            requests += 1
            key = f"k{number}"
            if key not in loaded or draw.random() < 0.1:
                trial.missed(key)
                misses += 1
                loaded.add(key)
    found = trial.statistics(requests)

    assert found.hit_ratio == pytest.approx(1 - misses / requests)
    assert found.hit_ratio_without == pytest.approx(1 - 1.2 / 3, abs=0.08)
    assert found.misses_ratio is not None
    assert found.misses_ratio.high < 0.4


def test_a_list_that_spares_every_load_is_compared_all_the_same() -> None:
    trial = KeyListGain(KeyListPolicy(), salt=11)
    for key in [key for key in map(str, range(4000)) if trial.holds(key)]:
        trial.missed(key)
    found = trial.statistics(8000)

    assert found.hit_ratio == pytest.approx(0.975, abs=0.012)
    assert found.hit_ratio_without == pytest.approx(0.5, abs=0.25)


def test_a_trial_without_misses_claims_nothing() -> None:
    found = KeyListGain(KeyListPolicy(), salt=1).statistics(1000)

    assert (1000, 1.0, None) == (found.requests, found.hit_ratio, found.hit_ratio_without)


def test_policies_that_cannot_stand_are_refused() -> None:
    for wrong in (
        {"max_keys": 0},
        {"batch_rows": 0},
        {"every_s": 0.0},
        {"held_back_ratio": 0.0},
        {"loaded_rows_per_s": 0.0},
    ):
        with pytest.raises(InvalidValue):
            KeyListPolicy(**wrong)  # type: ignore[arg-type]  # each is of its field's type
    with pytest.raises(InvalidValue):
        KeyRanks(max_keys=0)
