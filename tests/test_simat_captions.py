"""The grammar of captions, and captions that others wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.simat.captions import read_captions, write_caption, write_captions

WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("triplet", "caption"),
    [
        (("man", "sitting on a", "chair"), "A man sitting on a chair."),
        (("elephant", "touching", "elephant"), "An elephant touching another elephant."),
        (("boy", "sitting on a", "elephant"), "A boy sitting on an elephant."),
        (("people", "sitting on a", "grass"), "People sitting on grass."),
        (("people", "waiting at", "bus stop"), "People waiting at a bus stop."),
        (("sheep", "laying in", "hay"), "A sheep laying in hay."),
        (("cat", "laying in", "rug"), "A cat laying on a rug."),
        (("bear", "laying in", "wall"), "A bear laying against a wall."),
        (("cow", "eating from", "water"), "A cow drinking water."),
        (("dog", "running in", "beach"), "A dog running on a beach."),
        (("man", "jumping on", "skis"), "A man jumping on skis."),
        (("girl", "sitting on a", "outside"), "A girl sitting outside."),
        (("man", "entering", "bus"), "A man entering a bus."),
        (("woman", "grabbing", "wine glass"), "A woman grabbing a wine glass."),
    ],
)
def test_grammar_writes_what_a_person_would(triplet: tuple[str, str, str], caption: str) -> None:
    assert write_caption(triplet) == caption


@given(WORD, WORD, WORD)
def test_grammar_writes_a_sentence_with_every_word_of_any_triplet(subject: str, relation: str, obj: str) -> None:
    caption = write_caption((subject, relation, obj))

    assert caption.endswith(".")
    assert caption[0].isupper()
    assert {subject, relation, obj} <= set(caption[:-1].lower().split())


def test_given_captions_come_before_the_grammar() -> None:
    chair, bed = ("man", "on", "chair"), ("man", "on", "bed")

    assert write_captions([chair, bed], {chair: "Somebody sits."}) == {chair: "Somebody sits.", bed: "A man on a bed."}


def test_two_triplets_with_one_caption_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"two triplets have the caption 'A man on a bed\.'"):
        write_captions([("man", "on", "bed"), ("man", "on a", "bed")])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_captions_are_read_by_triplet(tmp_path: Path, suffix: str) -> None:
    mark = "," if suffix == ".csv" else "\t"
    path = tmp_path / f"captions{suffix}"
    path.write_text(f"caption{mark}subj{mark}rel{mark}obj\nDer Hund schläft.{mark}dog{mark}sleeping on{mark}bed\n")

    assert read_captions(path) == {("dog", "sleeping on", "bed"): "Der Hund schläft."}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog,on,bed,\n", "caption on line 2 of c.csv is empty"),
        (",on,bed,A dog.\n", "subj on line 2 of c.csv is empty"),
        (f"dog,on,bed,{'x' * 10_000}\n", "caption on line 2 of c.csv is longer than 1,000 characters; got 10,000"),
        ("dog,on,bed,A\0dog.\n", "c.csv has NUL bytes"),
        ("dog,on,bed,A\x1bdog.\n", "caption on line 2 of c.csv has control characters"),
        ("dog,on,bed,A dog.\ndog,on,bed,A cat.\n", "line 3 of c.csv has a triplet for the second time"),
        ("dog,on,bed\n", "line 2 of c.csv is damaged; got 3 fields instead of 4"),
        ("dog,on,bed,A do", "c.csv ends in the middle of a line"),
    ],
)
def test_bad_captions_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text("subj,rel,obj,caption\n" + text)

    with pytest.raises(CorpusError, match=message):
        read_captions(path)


def test_files_that_hold_no_captions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "latin.csv").write_bytes(b"subj,rel,obj,caption\ndog,on,bed,caf\xe9\n")

    with pytest.raises(CorpusError, match=r"other\.csv lacks the columns subj, rel, obj, caption"):
        read_captions(tmp_path / "other.csv")
    with pytest.raises(CorpusError, match=r"latin\.csv is no UTF-8 text"):
        read_captions(tmp_path / "latin.csv")
    with pytest.raises(CorpusError, match=r"none\.csv is missing"):
        read_captions(tmp_path / "none.csv")
