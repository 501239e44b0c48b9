"""BISON: its file layouts, the pairing with COCO, and word edits as a metric."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cocofiles import TEXTS, coco_name, official, save_images, save_json
from hypothesis import given
from hypothesis import strategies as st

from data.bison import (
    Bison,
    BisonQuery,
    editing_queries,
    filtered_queries,
    read_bison,
    word_edits,
    words,
)
from data.coco_corpus import build_captions, captions_by_image, files_by_image
from data.corpus import Corpus, CorpusError

ANNOTATION = Bison(0, 70, "a cat runs", ((7, coco_name(7, "val2014")), (9, coco_name(9, "val2014"))), 7)


def record(bison_id: int = 0, caption: str = "a cat runs", true: int = 7, other: int = 9) -> dict[str, Any]:
    """An annotation as the file has it; the true image comes first where the id is even."""
    ids = (true, other) if bison_id % 2 == 0 else (other, true)
    candidates = [{"image_id": i, "image_filename": coco_name(i, "val2014")} for i in ids]
    return {
        "bison_id": bison_id,
        "caption_id": 10 * true + bison_id,
        "caption": caption,
        "image_candidates": candidates,
        "true_image_id": true,
    }


def save(path: Path, *records: Any) -> Path:
    """Write annotations in the layout of their release."""
    return save_json(path, {"info": {"source": "coco", "split": "val2014"}, "data": [*records]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bison_annotations.cocoval2014.json"


def test_read_bison_reads_the_released_layout(path: Path) -> None:
    annotations, skipped = read_bison(save(path, record(), record(1, "a bus", 9, 7)))
    assert annotations[0] == ANNOTATION
    assert [a.bison_id for a in annotations] == [0, 1]
    assert skipped == {}


@pytest.mark.parametrize("indent", [None, 2])
def test_read_bison_reads_an_array(path: Path, indent: int | None) -> None:
    path.write_text("\n " + json.dumps([record(), record(1)], indent=indent))
    assert [a.bison_id for a in read_bison(path)[0]] == [0, 1]


@pytest.mark.parametrize("first", ["bison_id", "caption", "true_image_id", "image_candidates", "caption_id"])
def test_read_bison_reads_one_object_a_line(path: Path, first: str) -> None:
    lines = [json.dumps({first: r[first], **r}) for r in (record(), record(1, 'the "data" is here'))]
    path.write_text("\n".join(lines) + "\n")
    assert [a.caption for a in read_bison(path)[0]] == ["a cat runs", 'the "data" is here']


@pytest.mark.parametrize("bison_id", [0, 1])
def test_the_false_image_is_the_one_the_caption_contradicts(path: Path, bison_id: int) -> None:
    annotation = read_bison(save(path, record(bison_id)))[0][0]
    assert annotation.images[bison_id][0] == annotation.true_image_id == 7
    assert annotation.false_image == (9, "COCO_val2014_000000000009.jpg")


def test_read_bison_skips_and_counts_second_ids_and_unusable_captions(path: Path) -> None:
    faulty = [record(n, caption) for n, caption in enumerate(["", "x" * 10_000, "a\0cat", " \n"], 1)]
    annotations, skipped = read_bison(save(path, record(), record(0, "another"), *faulty))
    assert annotations == [ANNOTATION]
    assert skipped == {"duplicate": 1, "caption_empty": 2, "caption_too_long": 1, "caption_control_characters": 1}


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("lines", [False, True])
def test_read_bison_of_truncated_json_is_one_clear_error(path: Path, share: float, lines: bool) -> None:
    document = [record(n) for n in range(4)]
    content = "\n".join(map(json.dumps, document)) if lines else json.dumps({"data": document})
    path.write_text(content[: int(share * len(content))])
    with pytest.raises(CorpusError, match="truncated or damaged JSON"):
        read_bison(path)


@pytest.mark.parametrize("document", [{}, {"data": []}, [], {"images": [], "annotations": []}])
def test_read_bison_of_another_file_says_what_to_give(path: Path, document: Any) -> None:
    with pytest.raises(CorpusError, match=r"no BISON annotations; .*; give bison_annotations\.cocoval2014\.json"):
        read_bison(save_json(path, document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bison_id": "0"}, "'bison_id' should be a whole number; got '0'"),
        ({"caption": None}, "'caption' should be text; got nothing"),
        ({"true_image_id": 8}, "annotation 0: not exactly one candidate is the true image"),
        ({"image_candidates": []}, "annotation 0 has not two image candidates"),
        ({"image_candidates": [7, 9]}, "annotation 0 has not two image candidates"),
        ({"image_candidates": [{"image_id": 7}, {"image_id": 9}]}, "'image_filename' should be text"),
        ({"image_candidates": [{"image_id": 7, "image_filename": "a"}] * 2}, "not exactly one candidate"),
    ],
)
def test_read_bison_of_a_wrong_record_says_what_is_wrong(path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_bison(save(path, {**record(), **change}))


def test_read_bison_of_a_record_that_is_no_object_shows_it(path: Path) -> None:
    with pytest.raises(CorpusError, match=r"data\.item 2 is no object; got 'x'"):
        read_bison(save(path, record(), "x"))


def test_read_bison_without_a_file_says_so(path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the annotations: No such file or directory"):
        read_bison(path)


def test_editing_queries_take_the_nearest_caption_of_the_image_to_edit() -> None:
    found = editing_queries([ANNOTATION], {9: TEXTS, 7: ["a cat runs"]})
    expected = BisonQuery(0, 9, coco_name(9, "val2014"), "a cat runs", "a dog runs", 1)
    assert (found.queries, dict(found.skipped)) == ((expected,), {})
    assert found.queries[0].edited_share == pytest.approx(1 / 3)


def test_editing_queries_take_the_first_of_equally_near_captions() -> None:
    found = editing_queries([ANNOTATION], {9: ["a dog sleeps", "a dog runs", "a bird runs"]})
    assert found.queries[0].reference == "a dog runs"


def test_editing_queries_skip_and_count_images_that_are_not_at_hand() -> None:
    annotations = [Bison(n, n, "a cat", ((n, "a"), (100 + n, "b")), n) for n in range(3)]
    found = editing_queries(annotations, {100: ["a dog"], 101: [], 7: ["a dog"]})
    assert [query.bison_id for query in found.queries] == [0]
    assert found.skipped == {"image_without_captions": 1, "image_missing": 1}


def test_editing_queries_of_a_caption_without_words_are_skipped() -> None:
    assert editing_queries([ANNOTATION], {9: ["?!", "..."]}).skipped == {"image_without_captions": 1}


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ("a dog runs fast", True),  # 1 of 4
        ("a dog runs", False),  # 1 of 3
        ("a big dog runs very fast today now", True),  # 2 of 8
        ("one big dog runs very fast today now", False),  # 3 of 8
    ],
)
def test_filtered_queries_change_at_most_a_quarter_of_the_words(reference: str, kept: bool) -> None:
    query = reference.replace("one", "a").replace("big", "small").replace("dog", "cat")
    made = BisonQuery(0, 9, "x.jpg", query, reference, word_edits(reference, query))
    assert filtered_queries([made]) == [made] * kept


def test_the_edited_share_is_of_the_reference_not_of_the_query() -> None:
    shorter = BisonQuery(0, 9, "x.jpg", "a dog runs fast", "a dog runs", 1)
    longer = BisonQuery(1, 9, "x.jpg", "a dog runs", "a dog runs fast", 1)
    assert [shorter.edited_share, longer.edited_share] == pytest.approx([1 / 3, 1 / 4])
    assert filtered_queries([shorter, longer]) == [longer]


def test_bison_pairs_with_a_corpus_of_coco_captions(tmp_path: Path, path: Path) -> None:
    captions = save_json(tmp_path / "captions_val2014.json", official({7: ["a cat runs on grass"], 9: TEXTS}))
    images = save_images(tmp_path / "images", [f"val2014/{coco_name(i, 'val2014')}" for i in (7, 9)])
    build_captions(captions, images, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus", "captions")
    annotations, _ = read_bison(save(path, record(0, "the cat on grass"), record(1, "a cat", 7, 8)))
    found = editing_queries(annotations, captions_by_image(corpus))
    assert [(q.reference, q.edits) for q in filtered_queries(found.queries)] == [("the dog on grass", 1)]
    assert files_by_image(corpus)[found.queries[0].image_id].name == found.queries[0].file
    assert found.skipped == {"image_missing": 1}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog, running. ", ["a", "dog", "running"]),
        ("a man's T-shirt & tie!", ["a", "man's", "t-shirt", "tie"]),
        ("Ein Hündchen läuft", ["ein", "hündchen", "läuft"]),
        (" -- . ", []),
    ],
)
def test_words_have_no_case_and_no_punctuation(caption: str, expected: list[str]) -> None:
    assert words(caption) == expected


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("A dog.", "a dog", 0),
        ("a dog runs", "a cat runs", 1),
        ("a dog runs", "a dog", 1),
        ("a dog", "a big brown dog", 2),
        ("kitten sitting", "sitting kitten", 2),
        ("", "a b c", 3),
    ],
)
def test_word_edits_counts_words(a: str, b: str, edits: int) -> None:
    assert word_edits(a, b) == edits


captions = st.lists(st.sampled_from(["a", "dog", "cat", "on", "grass"]), max_size=7).map(" ".join)


def recursive_edits(a: str, b: str) -> int:
    """The definition of the Levenshtein distance, literally."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = a.split()[i - 1] == b.split()[j - 1]
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same))

    return distance(len(a.split()), len(b.split()))


@given(a=captions, b=captions)
def test_word_edits_is_the_levenshtein_distance(a: str, b: str) -> None:
    assert word_edits(a, b) == recursive_edits(a, b)


@given(a=captions, b=captions, c=captions)
def test_word_edits_is_a_metric(a: str, b: str, c: str) -> None:
    assert (word_edits(a, b) == 0) == (a == b)
    assert word_edits(a, b) == word_edits(b, a)
    assert word_edits(a, c) <= word_edits(a, b) + word_edits(b, c)


@given(a=captions, b=captions)
def test_word_edits_lies_between_the_difference_and_the_maximum_of_the_lengths(a: str, b: str) -> None:
    lengths = len(a.split()), len(b.split())
    assert max(lengths) - min(lengths) <= word_edits(a, b) <= max(lengths)
