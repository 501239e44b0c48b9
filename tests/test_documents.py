"""Answers as dictionaries: paths as one line of Unicode, and below a root or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.documents import as_document, shown
from simat.types import Answer, Result

NAMES = st.binary(min_size=1, max_size=12).filter(lambda raw: not {0, 47} & {*raw} and raw not in {b".", b".."})


def answer(*paths: str) -> Answer:
    return Answer(tuple(Result(0.5, n, Path(path), None) for n, path in enumerate(paths)), "retrieve", {"search": 0.1})


@given(NAMES.map(os.fsdecode))
def test_any_name_is_shown_as_one_line_that_json_takes(name: str) -> None:
    (told,) = as_document(answer(f"/photos/a/{name}"), Path("/photos"))["results"]
    assert told["path"].startswith("a/")
    assert not {"\n", "\r"} & {*told["path"]}
    assert json.loads(json.dumps(told).encode()) == told


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/photos/a/b.png", "a/b.png"), ("/elsewhere/secret/b.png", "b.png"), ("/photos2/b.png", "b.png")],
)
def test_paths_are_told_below_the_root_or_as_a_name(path: str, expected: str) -> None:
    (told,) = as_document(answer(path), Path("/photos"))["results"]
    assert told["path"] == expected


def test_without_a_root_paths_are_told_whole() -> None:
    assert [r["path"] for r in as_document(answer("/photos/a\nb.png", "c.png"))["results"]] == [
        "/photos/a\\nb.png",
        "c.png",
    ]
    assert shown(None) == ""


def test_a_made_picture_has_no_path() -> None:
    made = Answer((Result(0.0, caption="a cat"),), "diffedit")
    assert as_document(made, Path("/photos"))["results"] == [{"id": None, "score": 0.0, "path": "", "caption": "a cat"}]
