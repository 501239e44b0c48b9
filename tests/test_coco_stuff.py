"""COCO-Stuff: maps in the data set's own layout, and the layouts that the three protocols make of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cocofiles import save_json
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from data.coco_stuff import (
    UNLABELLED,
    few,
    filtered,
    label_names,
    layout_of,
    map_path,
    prompt_of,
    read_label_names,
    read_map,
    segments_of,
)
from data.corpus import CorpusError
from simat.errors import ImageError

KNOWN = sorted(label_names())
maps = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([*KNOWN[:6], *KNOWN[-3:], 255]),
)


def beach() -> np.ndarray:
    """20 × 20: sky 50 %, sand 25 %, sea 20 %, a dog of exactly 5 % less one pixel where a kite is."""
    pixels = np.full((20, 20), 156, np.uint8)
    pixels[10:15], pixels[15:19], pixels[19] = 153, 154, 17
    pixels[19, 0] = 37
    return pixels


def shares(pixels: np.ndarray) -> dict[str, float]:
    """Share of the image by the name of the class."""
    return {segment.name: segment.share for segment in segments_of(pixels)}


def test_label_names_are_those_of_the_171_annotated_classes() -> None:
    names = label_names()
    assert (len(names), len(set(names.values())), min(names), max(names)) == (171, 171, 0, 181)
    assert sum(label <= 90 for label in names) == 80
    assert [names[label] for label in (0, 16, 17, 91, 123, 156, 181)] == [
        "person", "cat", "dog", "banner", "grass", "sky-other", "wood"
    ]  # fmt: skip


def test_read_label_names_counts_from_one_less_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0: unlabeled\n1: person\n2: bicycle\n\n182: wood\n")
    assert read_label_names(tmp_path / "labels.txt") == {0: "person", 1: "bicycle", 181: "wood"}


def test_read_label_names_reads_a_list_of_categories(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "person", "isthing": 1}, {"id": 92, "name": "sand", "isthing": 0}]
    names = read_label_names(save_json(tmp_path / "categories.json", categories))
    assert names == {0: "person", 91: "sand"}
    assert [s.name for s in segments_of(np.array([[0, 91, 255]], np.uint8), names)] == ["person", "sand"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a file of label names"),
        ({"categories": []}, "not a file of label names"),
        ([{"id": 300, "name": "x"}], "not a file of label names"),
        ([{"id": 1}], "'name' should be text; got nothing"),
        ([{"id": "1", "name": "person"}], "'id' should be a whole number; got '1'"),
    ],
)
def test_read_label_names_of_other_json_says_what_is_wrong(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_label_names(save_json(tmp_path / "categories.json", document))


@pytest.mark.parametrize(
    "content", [b"", b"0: unlabeled\n", b"person\nbicycle\n", b"1: person\nsomething\n", b"300: x\n"]
)
def test_read_label_names_of_another_file_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(CorpusError, match="not a file of label names"):
        read_label_names(tmp_path / "labels.txt")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_read_label_names_of_an_unreadable_file_says_so(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(CorpusError, match="cannot read the names of the labels"):
        read_label_names(tmp_path / "labels.txt")


@pytest.mark.parametrize("mode", ["L", "P"])
def test_read_map_gives_the_value_of_every_pixel(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(beach())
    if mode == "P":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([255 - i // 3 for i in range(768)])
    image.save(map_path(tmp_path, 391895))
    assert map_path(tmp_path, 391895).name == "000000391895.png"
    np.testing.assert_array_equal(read_map(map_path(tmp_path, 391895)), beach())


def test_map_path_is_the_plain_id_where_that_file_is(tmp_path: Path) -> None:
    assert map_path(tmp_path, 7) == tmp_path / "000000000007.png"
    (tmp_path / "7.png").touch()
    assert map_path(tmp_path, 7) == tmp_path / "7.png"


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1", "LA"])
def test_read_map_of_another_kind_of_image_shows_its_mode(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "map.png")
    with pytest.raises(CorpusError, match="a map has one byte per pixel; got mode"):
        read_map(tmp_path / "map.png")


def test_read_map_of_a_damaged_file_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8)).save(tmp_path / "map.png")
    (tmp_path / "map.png").write_bytes((tmp_path / "map.png").read_bytes()[:300])
    with pytest.raises(CorpusError, match="not a segmentation map, or a damaged one"):
        read_map(tmp_path / "map.png")


def test_read_map_of_a_lossy_image_says_so(tmp_path: Path) -> None:
    Image.fromarray(beach()).save(tmp_path / "map.png", "JPEG")
    with pytest.raises(CorpusError, match=r"not a segmentation map.*; give a PNG"):
        read_map(tmp_path / "map.png")


def test_read_map_that_is_too_large_shows_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(beach()).save(tmp_path / "map.png")
    monkeypatch.setattr("data.coco_stuff.MAX_PIXELS", 399)
    with pytest.raises(CorpusError, match="the map is too large; got 20 × 20 pixels"):
        read_map(tmp_path / "map.png")


def test_read_map_without_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot read the file: No such file"):
        read_map(tmp_path / "map.png")


def test_segments_are_the_classes_of_the_map() -> None:
    expected = {"dog": 0.0475, "kite": 0.0025, "sand": 0.25, "sea": 0.2, "sky-other": 0.5}
    assert shares(beach()) == pytest.approx(expected)


@given(pixels=maps)
def test_segments_are_disjoint_and_cover_what_is_labelled(pixels: np.ndarray) -> None:
    segments = segments_of(pixels)
    covered = np.sum([s.mask for s in segments], 0) if segments else np.zeros(pixels.shape)
    np.testing.assert_array_equal(covered, (pixels != UNLABELLED).astype(int))
    assert all((pixels[s.mask] == s.label).all() and s.name == label_names()[s.label] for s in segments)


@given(pixels=maps, seed=st.integers(0, 2**32 - 1))
def test_each_protocol_keeps_segments_of_the_one_before(pixels: np.ndarray, seed: int) -> None:
    every = segments_of(pixels)
    large, chosen = filtered(every), few(every, np.random.default_rng(seed))
    assert set(chosen) <= set(large) <= set(every)
    assert all(s.share >= 0.05 for s in large)
    assert all(s.share < 0.05 for s in set(every) - set(large))
    assert min(1, len(large)) <= len(chosen) <= min(3, len(large))
    assert [s.label for s in chosen] == sorted(s.label for s in chosen)


def test_filtered_keeps_a_segment_of_exactly_five_per_cent() -> None:
    pixels = beach()
    assert [s.name for s in filtered(segments_of(pixels))] == ["sand", "sea", "sky-other"]
    pixels[19] = 17
    assert [s.name for s in filtered(segments_of(pixels))] == ["dog", "sand", "sea", "sky-other"]


def test_few_draws_every_number_and_every_segment() -> None:
    segments, rng = segments_of(beach()), np.random.default_rng(0)
    drawn = [few(segments, rng) for _ in range(200)]
    assert {len(chosen) for chosen in drawn} == {1, 2, 3}
    assert all(len({s.label for s in chosen}) == len(chosen) for chosen in drawn)
    assert {s.name for chosen in drawn for s in chosen} == {"sand", "sea", "sky-other"}


def test_few_depends_on_the_seed_alone() -> None:
    segments = segments_of(beach())
    twice = [[few(segments, rng) for _ in range(20)] for rng in (np.random.default_rng(3), np.random.default_rng(3))]
    assert twice[0] == twice[1]


@pytest.mark.parametrize(("protocol", "count"), [("all", 5), ("filtered", 3)])
def test_layout_of_every_segment_or_the_large_ones_draws_nothing(protocol: Any, count: int) -> None:
    rng = np.random.default_rng(0)
    assert len(layout_of(segments_of(beach()), protocol, rng)) == count
    assert rng.random() == np.random.default_rng(0).random()


def test_layout_of_few_is_few() -> None:
    segments = segments_of(beach())
    assert layout_of(segments, "few", np.random.default_rng(5)) == few(segments, np.random.default_rng(5))


def test_an_unlabelled_map_has_no_segments() -> None:
    pixels = np.full((4, 4), UNLABELLED, np.uint8)
    assert segments_of(pixels) == few(segments_of(pixels), np.random.default_rng(0)) == ()


def test_the_share_is_of_the_whole_image_not_of_what_is_labelled() -> None:
    pixels = np.full((10, 10), UNLABELLED, np.uint8)
    pixels[0, :4] = 17
    assert shares(pixels) == {"dog": 0.04}
    assert filtered(segments_of(pixels)) == ()


def test_segments_of_labels_without_a_name_lists_them() -> None:
    with pytest.raises(CorpusError, match=r"labels without a name; got \[11, 200\]; give the data set's labels\.txt"):
        segments_of(np.array([[0, 11, 200]], np.uint8))


def test_segments_take_other_names() -> None:
    assert [s.name for s in segments_of(np.array([[0, 1, 255]], np.uint8), {0: "dog", 1: "beach"})] == ["dog", "beach"]


def test_segments_cannot_be_changed() -> None:
    segment = segments_of(beach())[0]
    with pytest.raises(FrozenInstanceError):
        segment.name = "cat"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        segment.mask[0, 0] = True


def test_prompt_of_a_caption_lists_the_classes_and_says_where() -> None:
    prompt = prompt_of("A dog by the sea. ", filtered(segments_of(beach())))
    assert prompt.text == "A dog by the sea, sand, sea, sky-other"
    assert [prompt.text[a:b] for a, b in prompt.spans] == ["sand", "sea", "sky-other"]
    assert prompt.spans[1][0] > len("A dog by the sea")


def test_prompt_of_no_caption_is_the_classes() -> None:
    assert prompt_of("", segments_of(np.array([[17, 37]], np.uint8))).text == "dog, kite"
