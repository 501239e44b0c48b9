"""COCO's annotation files: both layouts, and every way in which a file can be other than it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cocofiles import TEXTS, karpathy, official, save_json
from hypothesis import given
from hypothesis import strategies as st

from data.coco import KARPATHY_SPLITS, MAX_CAPTION, CocoCaption, CocoImage, caption_fault, read_annotations
from data.corpus import CorpusError
from data.json_stream import whole_number

DOGS = {7: TEXTS, 9: TEXTS}


def with_captions(tmp_path: Path, *texts: str) -> Path:
    """A captions file of one image with the given captions after one that is sound."""
    return save_json(tmp_path / "captions_val2014.json", official({7: ("sound", *texts)}))


def test_read_annotations_reads_the_official_layout(tmp_path: Path) -> None:
    read = read_annotations(save_json(tmp_path / "captions_val2014.json", official(DOGS)))
    assert read.images == tuple(CocoImage(i, f"COCO_val2014_{i:012}.jpg", "val") for i in (7, 9))
    assert read.captions[1] == CocoCaption(701, 7, "a dog runs")
    assert (len(read.captions), read.split, dict(read.skipped)) == (10, "official", {})


def test_read_annotations_reads_every_captions_file_of_a_folder_and_no_other(tmp_path: Path) -> None:
    save_json(tmp_path / "captions_train2017.json", official({1: TEXTS, 2: TEXTS}, "train2017"))
    save_json(tmp_path / "captions_val2017.json", official({3: TEXTS}, "val2017"))
    (tmp_path / "instances_val2017.json").write_text("not even JSON")
    read = read_annotations(tmp_path)
    assert {image.image_id: image.split for image in read.images} == {1: "train", 2: "train", 3: "val"}
    assert [path.name for path in read.files] == ["captions_train2017.json", "captions_val2017.json"]


def test_read_annotations_reads_karpathys_layout_with_its_four_splits(tmp_path: Path) -> None:
    splits = {1: "train", 2: "restval", 3: "val", 4: "test"}
    read = read_annotations(save_json(tmp_path / "dataset_coco.json", karpathy(dict.fromkeys(splits, TEXTS), splits)))
    assert {image.image_id: image.split for image in read.images} == splits
    assert read.images[0].file == "train2014/COCO_train2014_000000000001.jpg"
    assert read.images[1].file == "val2014/COCO_val2014_000000000002.jpg"
    assert read.captions[-1] == CocoCaption(404, 4, "a dog in the park")
    assert read.split == "karpathy"


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder with the official captions and with Karpathy's splits of one image."""
    save_json(tmp_path / "captions_val2014.json", official({7: TEXTS}))
    save_json(tmp_path / "dataset_coco.json", karpathy({7: TEXTS}, {7: "test"}))
    return tmp_path


def test_read_annotations_prefers_karpathys_splits_where_both_are(both: Path) -> None:
    assert [image.split for image in read_annotations(both).images] == ["test"]


@pytest.mark.parametrize(("split", "expected"), [("official", "val"), ("karpathy", "test")])
def test_read_annotations_takes_the_splits_that_are_asked_for(both: Path, split: Any, expected: str) -> None:
    assert [image.split for image in read_annotations(both, split).images] == [expected]


def test_both_layouts_give_the_same_captions(both: Path) -> None:
    assert read_annotations(both, "official").captions == read_annotations(both, "karpathy").captions


captions = st.dictionaries(
    st.integers(0, 10**9), st.lists(st.text("abc ", min_size=1).filter(str.strip), max_size=7), min_size=1, max_size=8
)


@given(captions=captions, data=st.data())
def test_the_split_is_a_partition_of_the_images(
    tmp_path_factory: pytest.TempPathFactory, captions: dict[int, list[str]], data: st.DataObject
) -> None:
    splits = {i: data.draw(st.sampled_from(KARPATHY_SPLITS)) for i in captions}
    path = save_json(tmp_path_factory.mktemp("split") / "dataset_coco.json", karpathy(captions, splits))
    read = read_annotations(path)
    parts = {split: {i.image_id for i in read.images if i.split == split} for split in KARPATHY_SPLITS}
    assert sum(map(len, parts.values())) == len(captions)
    assert set.union(*parts.values()) == captions.keys()
    assert [c.caption for c in read.captions] == [" ".join(text.split()) for i in captions for text in captions[i]]


def test_read_annotations_makes_runs_of_white_space_single_spaces(tmp_path: Path) -> None:
    read = read_annotations(with_captions(tmp_path, " A dog\n runs.\t\n"))
    assert [c.caption for c in read.captions] == ["sound", "A dog runs."]


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("x" * 10_000, "too_long"),
        ("x" * (MAX_CAPTION + 1), "too_long"),
        ("a\0dog", "control_characters"),
        ("a dog\x1b[31m", "control_characters"),
    ],
)
def test_read_annotations_skips_and_counts_captions_nobody_can_use(tmp_path: Path, caption: str, fault: str) -> None:
    read = read_annotations(with_captions(tmp_path, caption, caption))
    assert [c.caption for c in read.captions] == ["sound"]
    assert read.skipped == {f"captions_{fault}": 2}


@pytest.mark.parametrize("caption", ["x" * MAX_CAPTION, "Ein Hund läuft", "犬が走る", "a dog 🐕", "a\nb"])
def test_caption_fault_finds_none_in_ordinary_text(caption: str) -> None:
    assert caption_fault(caption) is None


def test_caption_fault_finds_a_lone_surrogate() -> None:
    assert caption_fault("a \ud800 dog") == "control_characters"  # the JSON library may replace it before we see it


def test_read_annotations_keeps_the_first_use_of_an_image_id(tmp_path: Path) -> None:
    document = official(DOGS)
    document["images"].append({"id": 7, "file_name": "other.jpg"})
    read = read_annotations(save_json(tmp_path / "captions_val2014.json", document))
    assert [image.file for image in read.images if image.image_id == 7] == ["COCO_val2014_000000000007.jpg"]
    assert read.skipped == {"images_duplicate": 1}


def test_read_annotations_keeps_the_first_use_of_a_caption_id(tmp_path: Path) -> None:
    document = official(DOGS)
    document["annotations"].append({"id": 700, "image_id": 9, "caption": "another"})
    read = read_annotations(save_json(tmp_path / "captions_val2014.json", document))
    assert [c.caption for c in read.captions if c.caption_id == 700] == ["a dog"]
    assert read.skipped == {"captions_duplicate": 1}


def test_read_annotations_of_karpathys_layout_keeps_the_first_use_of_an_image_id(tmp_path: Path) -> None:
    document = karpathy({7: TEXTS}, {7: "val"})
    document["images"] *= 2
    read = read_annotations(save_json(tmp_path / "dataset_coco.json", document))
    assert (len(read.images), len(read.captions), dict(read.skipped)) == (1, 5, {"images_duplicate": 1})


def test_read_annotations_counts_captions_of_unknown_images(tmp_path: Path) -> None:
    document = official(DOGS)
    document["images"].pop()
    read = read_annotations(save_json(tmp_path / "captions_val2014.json", document))
    assert {c.image_id for c in read.captions} == {7}
    assert read.skipped == {"captions_of_unknown_images": 5}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("name", ["captions_val2014.json", "dataset_coco.json"])
def test_read_annotations_of_truncated_json_is_one_clear_error(tmp_path: Path, share: float, name: str) -> None:
    document = official(DOGS) if name.startswith("captions") else karpathy(DOGS, {7: "val", 9: "val"})
    text = json.dumps(document)
    (tmp_path / name).write_text(text[: int(share * len(text))])
    with pytest.raises(CorpusError, match=f"truncated or damaged JSON; got .*{name}; download the file again"):
        read_annotations(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b'{"images": [{"id": 1, "file_name": "a\x00b"}]}'])
def test_read_annotations_of_other_bytes_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "captions_val2014.json").write_bytes(content)
    with pytest.raises(CorpusError, match="truncated or damaged JSON"):
        read_annotations(tmp_path / "captions_val2014.json")


def drop(key: str, of: str = "annotations") -> Callable[[dict[str, Any]], Any]:
    """Remove a key from the last record."""
    return lambda document: document[of][-1].pop(key)


def put(key: str, value: object, of: str = "annotations") -> Callable[[dict[str, Any]], Any]:
    """Put a value into the last record."""
    return lambda document: document[of][-1].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "no images in the annotations"),
        (lambda d: d.pop("annotations"), "annotations without captions"),
        (lambda d: [a.pop("caption") for a in d["annotations"]], "annotations without captions"),
        (drop("caption"), "'caption' should be text; got nothing"),
        (put("caption", None), "'caption' should be text; got nothing"),
        (put("caption", ["a dog"]), r"'caption' should be text; got \['a dog'\]"),
        (put("id", "7"), "'id' should be a whole number; got '7'"),
        (put("image_id", 7.5), r"'image_id' should be a whole number; got 7\.5"),
        (put("id", -1), "'id' should be a whole number; got -1"),
        (put("id", True), "'id' should be a whole number; got True"),
        (drop("file_name", "images"), "'file_name' should be text; got nothing"),
        (lambda d: d["annotations"].append(3), r"annotations\.item 11 is no object; got 3"),
    ],
)
def test_read_annotations_of_a_wrong_layout_says_what_is_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    document = official(DOGS)
    change(document)
    with pytest.raises(CorpusError, match=message):
        read_annotations(save_json(tmp_path / "captions_val2014.json", document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("split", "dev", "images"), "a split that is none of train, restval, val, test; got 'dev'"),
        (put("sentences", "a dog", "images"), "image 9 has no list of sentences"),
        (put("sentences", ["a dog"], "images"), "image 9 has no list of sentences"),
        (drop("cocoid", "images"), "'cocoid' should be a whole number; got nothing"),
        (lambda d: d["images"][0]["sentences"][0].pop("raw"), "'raw' should be text; got nothing"),
    ],
)
def test_read_annotations_of_wrong_splits_says_what_is_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    document = karpathy(DOGS, {7: "val", 9: "test"})
    change(document)
    with pytest.raises(CorpusError, match=message):
        read_annotations(save_json(tmp_path / "dataset_coco.json", document))


def test_whole_number_is_one_that_a_table_can_hold() -> None:
    assert whole_number({"id": 2**63 - 1}, "id", Path("a.json")) == 2**63 - 1
    with pytest.raises(CorpusError, match=r"a\.json: 'id' should be a whole number; got 9223372036854775808"):
        whole_number({"id": 2**63}, "id", Path("a.json"))


def test_read_annotations_of_two_years_says_that_they_hold_the_same_images(tmp_path: Path) -> None:
    save_json(tmp_path / "captions_val2014.json", official(DOGS))
    save_json(tmp_path / "captions_train2017.json", official(DOGS, "train2017"))
    with pytest.raises(CorpusError, match=r"captions of two years; got captions_train2017.*; give those of one"):
        read_annotations(tmp_path)


def test_read_annotations_of_a_file_whose_name_says_no_split_is_one_split(tmp_path: Path) -> None:
    save_json(tmp_path / "captions.json", official(DOGS))
    assert {image.split for image in read_annotations(tmp_path).images} == {"all"}


@pytest.mark.parametrize(
    ("split", "example"), [("karpathy", r"dataset_coco\.json"), ("official", r"captions_train2014\.json")]
)
def test_read_annotations_of_an_empty_folder_says_what_to_give(tmp_path: Path, split: Any, example: str) -> None:
    with pytest.raises(CorpusError, match=f"no captions with {split} splits here; .*; give a file like {example}"):
        read_annotations(tmp_path, split)


def test_read_annotations_with_two_files_of_karpathys_names_them(tmp_path: Path) -> None:
    for name in ("dataset_coco.json", "dataset_coco_2.json"):
        save_json(tmp_path / name, karpathy(DOGS, {7: "val", 9: "val"}))
    with pytest.raises(CorpusError, match=r"got dataset_coco\.json, dataset_coco_2\.json"):
        read_annotations(tmp_path)


def test_read_annotations_without_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the annotations: No such file or directory"):
        read_annotations(tmp_path / "captions_val2014.json")
