"""Which lines grew: those that are larger at each look, not those that are large."""

from __future__ import annotations

from perfloop.process.leaks.growing import (
    GrowingLine,
    GrowthPolicy,
    Held,
    Look,
    Place,
    growing_count,
    growing_lines,
    merged,
)

POLICY = GrowthPolicy()
TIMES = tuple(float(10 * place) for place in range(8))


def looks(**sizes: list[int]) -> list[Look]:
    return [
        Look(
            at_s=at_s,
            lines={
                Place(file=f"{name}.py", line=1): Held(size_bytes=values[place], objects=values[place] // 100)
                for name, values in sizes.items()
            },
        )
        for place, at_s in enumerate(TIMES)
    ]


def named(found: list[GrowingLine]) -> list[str]:
    return [each.place.file for each in found]


def test_what_grows_from_look_to_look_is_named_the_fastest_first() -> None:
    found = growing_lines(
        looks(
            slow=[20_000 * place for place in range(8)],
            fast=[90_000 * place for place in range(8)],
            large=[5_000_000] * 8,
        ),
        POLICY,
    )

    assert ["fast.py", "slow.py"] == named(found)
    assert 9000.0 == found[0].bytes_per_s
    assert (630_000, 6300) == (found[0].grown_bytes, found[0].grown_objects)


def test_what_fills_up_jumps_or_swings_is_not_named() -> None:
    found = growing_lines(
        looks(
            fills=[0, 200_000, 320_000, 380_000, 400_000, 410_000, 412_000, 413_000],
            jumps=[0, 0, 400_000, 400_000, 400_000, 400_000, 400_000, 400_000],
            swings=[0, 300_000, 50_000, 320_000, 80_000, 350_000, 100_000, 400_000],
        ),
        POLICY,
    )

    assert [] == named(found)


def test_a_line_is_named_by_its_objects_when_a_shared_list_comes_and_goes() -> None:
    place = Place(file="fills.py", line=1)
    found = growing_lines(
        [
            Look(
                at_s=at_s,
                lines={place: Held(size_bytes=50_000 * step + (step % 2) * 200_000, objects=500 * step)},
            )
            for step, at_s in enumerate(TIMES)
        ],
        POLICY,
    )

    assert ["fills.py"] == named(found)


def test_too_few_looks_tell_nothing() -> None:
    assert [] == growing_lines(looks(fast=[90_000 * place for place in range(8)])[:3], POLICY)


def test_descriptors_that_become_more_are_counted() -> None:
    assert 0.2 == growing_count(TIMES, [10 + 2 * place for place in range(8)], POLICY)
    assert growing_count(TIMES, [10, 14, 9, 12, 15, 10, 13, 12], POLICY) is None


def test_what_libraries_allocate_for_one_line_is_one_line() -> None:
    own = Place(file="app.py", line=7)
    parts = [
        GrowingLine(
            place=Place(file=name, line=1),
            bytes_per_s=10.0,
            grown_bytes=100,
            grown_objects=1,
            called_from=own,
        )
        for name in ("json.py", "threading.py")
    ]

    assert [(20.0, 200, 2)] == [
        (each.bytes_per_s, each.grown_bytes, each.grown_objects) for each in merged(parts)
    ]
