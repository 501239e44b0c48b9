"""What was made of an object is made once while it is remembered."""

from __future__ import annotations

from simat.recent import Recent


def test_recent_makes_once_for_the_same_object_and_anew_for_an_equal_one() -> None:
    recent, made = Recent(4), []
    one, equal = [1], [1]
    for source in (one, one, equal, one):
        assert recent.of(source, lambda source=source: made.append(source) or source) is source
    assert [id(source) for source in made] == [id(one), id(equal)]


def test_recent_forgets_the_one_that_was_used_longest_ago() -> None:
    recent, made = Recent(2), []
    a, b, c = [0], [1], [2]
    for source in (a, b, a, c, a, b):
        recent.of(source, lambda source=source: made.append(source[0]))
    assert made == [0, 1, 2, 1]


def test_recent_keeps_its_objects_so_that_no_other_takes_their_place() -> None:
    recent = Recent(3)
    seen = {recent.of([number], lambda number=number: number) for number in range(50)}
    assert seen == {*range(50)}
