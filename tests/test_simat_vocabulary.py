"""The words that a corpus is about, from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from building import here
from genomes import genome, relationship, thing
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.simat.vocabulary import RELATIONS, SIMAT, SUBJECTS, Vocabulary, read_vocabulary
from data.visual_genome.regions import ReadingOptions, ReadingReport, read_regions

WORD = st.text("abc", min_size=1, max_size=5)
SHAPE = r"this is no vocabulary; got .*; write \{\"subjects\""


@given(*(st.lists(WORD, min_size=1, max_size=4, unique=True),) * 2)
def test_vocabulary_survives_its_file(tmp_path_factory: Any, subjects: list[str], relations: list[str]) -> None:
    path = tmp_path_factory.mktemp("words") / "vocabulary.json"
    vocabulary = Vocabulary(tuple(subjects), tuple(relations))
    path.write_text(json.dumps(vocabulary.as_dict()))
    assert read_vocabulary(path) == vocabulary


def test_vocabulary_of_simat_is_the_default() -> None:
    assert ReadingOptions().vocabulary == SIMAT == Vocabulary(SUBJECTS, RELATIONS)
    assert (len(SIMAT.subjects), len(SIMAT.relations)) == (15, 20)


def test_words_are_cleaned_as_annotations_are(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text('{"subjects": [" Polar  Bear"], "relations": ["Sitting\\ton "]}')
    with pytest.raises(CorpusError, match=r"a word of vocabulary.json has control characters"):
        read_vocabulary(path)
    path.write_text('{"subjects": [" Polar  Bear"], "relations": ["Sitting  on "]}')
    assert read_vocabulary(path) == Vocabulary(("polar bear",), ("sitting on",))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", SHAPE),
        ("[]", SHAPE),
        ("[" * 100_000, SHAPE),
        ('{"subjects": ["cat"]}', SHAPE),
        ('{"subjects": "cat", "relations": ["on"]}', SHAPE),
        ('{"subjects": [1], "relations": ["on"]}', SHAPE),
        ('{"subjects": [], "relations": ["on"]}', r"the vocabulary has no subjects"),
        ('{"subjects": ["cat", "Cat"], "relations": ["on"]}', r"the vocabulary has subjects twice; got cat"),
        ('{"subjects": [" "], "relations": ["on"]}', r"a word of vocabulary.json is empty"),
        ('{"subjects": ["a\\u0000b"], "relations": ["on"]}', r"has control characters"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(CorpusError, match=match):
        read_vocabulary(tmp_path / "vocabulary.json")


def test_a_missing_vocabulary_is_one_line(tmp_path: Path, capsys: Any) -> None:
    ran = here(capsys, "data", "simat", "build", tmp_path, tmp_path / "out", "--vocabulary", tmp_path / "none.json")
    assert ran.error == f"cannot read the vocabulary; got {tmp_path / 'none.json'}: No such file or directory"


def test_reading_keeps_to_the_vocabulary_given(tmp_path: Path) -> None:
    robot = relationship(1, thing(1, "robot", (0, 0, 90, 90)), "polishing", thing(2, "spoon", (10, 0, 90, 90)))
    cat = relationship(2, thing(3, "cat", (0, 0, 90, 90)), "licking", thing(4, "spoon", (10, 0, 90, 90)))
    folder = genome({1: [robot], 2: [cat]}).write(tmp_path / "genome")
    report = ReadingReport()
    found = read_regions(folder, report=report, options=ReadingOptions(Vocabulary(("robot",), ("polishing",))))
    assert [region.triplet for region in found] == [("robot", "polishing", "spoon")]
    assert report.skipped == {"outside the vocabulary": 1}
    assert [region.triplet for region in read_regions(folder)] == [("cat", "licking", "spoon")]


@pytest.mark.parametrize(("least", "kept"), [(0, 1), (8999, 1), (9000, 0)])
def test_crops_must_have_more_than_the_least_area(tmp_path: Path, least: int, kept: int) -> None:
    cat = relationship(1, thing(1, "cat", (0, 0, 90, 90)), "licking", thing(2, "spoon", (10, 0, 90, 90)))
    folder = genome({1: [cat]}).write(tmp_path / "genome")
    assert len(read_regions(folder, options=ReadingOptions(min_area=least))) == kept


def test_a_negative_area_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"the least area of a crop is not negative; got -1"):
        ReadingOptions(min_area=-1)


@pytest.mark.parametrize(("flags", "found"), [((), {"jet", "plane"}), (("--object-aliases",), {"plane"})])
def test_object_aliases_of_the_data_set_are_used_where_asked(
    tmp_path: Path, capsys: Any, flags: tuple[str, ...], found: set[str]
) -> None:
    words = [(s, r, o) for s in ("cat", "dog") for r in ("licking", "biting") for o in ("jet", "plane")] * 2
    items = {
        n: [relationship(n, thing(2 * n, s, (0, 0, 90, 90)), r, thing(2 * n + 1, o, (10, 0, 90, 90)))]
        for n, (s, r, o) in enumerate(words, 1)
    }
    folder = genome(items).write(tmp_path / "genome")
    (folder / "object_alias.txt").write_text("plane,jet\n")
    ran = here(capsys, "data", "simat", "build", folder, tmp_path / "out", "--oracle", "none", "--json", *flags)
    assert ran.json["triplets"] == 4 * len(found)
