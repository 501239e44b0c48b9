"""Settings of a comparison, and runs that a kill does not undo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painters import EDITOR, Painters, Stop

from eval.editing.answers import Store, answered, run
from eval.editing.cases import EditCase, query_of
from eval.editing.settings import Setting, parse_limits, settings_of
from eval.scene_edits import scene_edits
from simat.errors import QueryError, StorageError
from simat.types import Accepts

COPY = Accepts(frozenset({"image"}), frozenset())
BOTH = {"fade": EDITOR, "copy": COPY}


@pytest.fixture(scope="module")
def cases() -> list[EditCase]:
    return scene_edits("subject", 4, size=64)


def test_settings_are_every_strength_and_every_value_of_a_sweep() -> None:
    found = settings_of(BOTH, (0.3, 0.8), ["fade.threshold=0.3,0.5", "fade.reference=off"], {"copy": 2})
    assert [one.label for one in found] == [
        "fade, 0.3", "fade, 0.8", "fade threshold=0.3, 0.3", "fade threshold=0.3, 0.8",
        "fade threshold=0.5, 0.3", "fade threshold=0.5, 0.8", "fade without reference, 0.3",
        "fade without reference, 0.8", "copy",
    ]  # fmt: skip
    assert found[2].settings == {"threshold": "0.3"}
    assert not found[6].reference
    assert found[-1].limit == 2
    assert len({one.slug for one in found}) == len(found)


def test_settings_that_hold_always_are_in_every_sweep() -> None:
    found = settings_of({"fade": EDITOR}, (0.5,), ["fade.layers=[16,32],[8]"], always=["fade.steps=9"])
    assert [one.settings for one in found] == [
        {"steps": "9"}, {"steps": "9", "layers": "[16,32]"}, {"steps": "9", "layers": "[8]"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sweep", "message"),
    [("fade", "a sweep reads"), ("fade.x=", "a sweep reads"), ("blur.x=1", "not compared; got blur"),
     ("fade.reference=maybe", "is on or off; got maybe")],
)  # fmt: skip
def test_sweeps_of_another_form_are_refused(sweep: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        settings_of(BOTH, (0.5,), [sweep])


def test_limits_name_backends_and_numbers() -> None:
    assert parse_limits("fade=5, copy=2", [*BOTH]) == {"fade": 5, "copy": 2}
    with pytest.raises(QueryError, match="a limit reads BACKEND=NUMBER; got 'fade=0'"):
        parse_limits("fade=0", [*BOTH])


def test_query_has_what_the_backend_takes_and_no_more(cases: list[EditCase]) -> None:
    full = query_of(cases[0], EDITOR, 7, 0.5)
    assert (full.text, full.reference, full.strength, full.seed) == (cases[0].text, cases[0].reference, 0.5, 7)
    assert full.parsed_edits == ()
    assert query_of(cases[0], EDITOR, 7, None, reference=False).reference is None
    words = query_of(cases[0], Accepts(frozenset({"image", "edits"}), frozenset()), 7, None)
    assert str(words.parsed_edits[0]) == cases[0].edits
    assert words.text is None
    with pytest.raises(QueryError, match="needs what this corpus does not know; got layout"):
        query_of(cases[0], Accepts(frozenset({"layout"}), frozenset()), 0, None)


def test_answers_come_back_as_they_were(cases: list[EditCase], tmp_path: Path) -> None:
    painters, store = Painters(), Store(tmp_path)
    fade, copy = Setting("fade", 0.5), Setting("copy")
    run(painters, cases, [fade, copy], store)
    made = store.load(fade, cases[1])
    expected, mask = painters.fade(query_of(cases[1], EDITOR, 1, 0.5))
    np.testing.assert_array_equal(np.asarray(made.picture), np.asarray(expected))
    assert made.mask is not None
    np.testing.assert_array_equal(made.mask, mask[0])
    assert store.load(copy, cases[1]).mask is None
    assert store.input(cases[3]).is_file()
    with pytest.raises(StorageError, match="missing or damaged"):
        store.load(Setting("fade", 0.7), cases[0])


def test_killed_run_goes_on_where_it_was(cases: list[EditCase], tmp_path: Path) -> None:
    settings = [Setting("fade", 0.3), Setting("fade", 0.8), Setting("copy", limit=3)]
    first = Painters(last=5)
    with pytest.raises(Stop):
        run(first, cases, settings, Store(tmp_path))
    again, whole = Painters(), Painters()
    run(again, cases, settings, Store(tmp_path))
    run(whole, cases, settings, Store(tmp_path / "whole"))
    assert len(first.asked) + len(again.asked) == len(whole.asked) == 4 + 4 + 3
    assert [(b, q.strength, q.seed) for q, b, _ in first.asked + again.asked] == [
        (b, q.strength, q.seed) for q, b, _ in whole.asked
    ]
    run(again, cases, settings, Store(tmp_path))
    assert len(again.asked) == 11 - 5  # nothing is asked twice


def test_other_model_seed_or_settings_are_asked_again(cases: list[EditCase], tmp_path: Path) -> None:
    painters = Painters()
    run(painters, cases[:1], [Setting("copy")], Store(tmp_path))
    run(painters, cases[:1], [Setting("copy")], Store(tmp_path), seed=1)
    painters.model = "painters 2"
    run(painters, cases[:1], [Setting("copy")], Store(tmp_path), seed=1)
    assert len(painters.asked) == 3
    kept, made = answered(Store(tmp_path), Setting("copy"), cases, "painters 2", 1)
    assert [case.key for case in kept] == [cases[0].key]
    assert made[0].picture is not None
    assert answered(Store(tmp_path), Setting("copy"), cases, "painters 1", 1) == ([], [])  # never mixed


def test_refusal_of_a_case_is_counted_but_of_the_first_it_ends_the_run(cases: list[EditCase], tmp_path: Path) -> None:
    store, fade = Store(tmp_path), Setting("fade", 0.5)
    run(Painters(refuse=cases[2].text), cases, [fade], store)
    assert store.load(fade, cases[2]).refused == f"a word is too many; got {cases[2].text}"
    assert store.load(fade, cases[2]).picture is None
    assert store.load(fade, cases[3]).refused is None
    with pytest.raises(QueryError, match="a word is too many"):
        run(Painters(refuse=cases[0].text), cases, [fade], Store(tmp_path / "other"))
    with pytest.raises(QueryError, match="two cases have the same key"):
        run(Painters(), [cases[0], cases[0]], [fade], store)
