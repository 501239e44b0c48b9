"""A corpus of COCO captions: what is in it, where its images are found, what is left out, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from building import Recorder, contents, here
from cocofiles import TEXTS, coco_name, karpathy, official, save_images, save_json

from data.coco_corpus import ImageFolder, build_captions, captions_by_image, files_by_image
from data.corpus import Corpus, CorpusError

CAPTIONS = {1: TEXTS, 2: TEXTS[:1], 3: (*TEXTS, "a sixth"), 4: TEXTS}
COUNTS = {"images": 4, "captions": 17, "splits": {"val": 4}, "images_missing": 0, "images_unreadable": 0}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return save_json(tmp_path / "annotations" / "captions_val2014.json", official(CAPTIONS))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_images(tmp_path / "images", [f"val2014/{coco_name(i, 'val2014')}" for i in CAPTIONS])


def build(tmp_path: Path, annotations: Path, images: Path, **options: Any) -> tuple[Corpus, dict[str, Any]]:
    counts = build_captions(annotations, images, tmp_path / "corpus", **options)
    return Corpus(tmp_path / "corpus", "captions"), counts


def test_build_captions_writes_every_image_and_caption(tmp_path: Path, annotations: Path, images: Path) -> None:
    corpus, counts = build(tmp_path, annotations, images)
    assert corpus.table("images").to_pylist()[1] == {
        "image_id": 2,
        "file": "val2014/COCO_val2014_000000000002.jpg",
        "width": 8,
        "height": 6,
        "split": "val",
    }
    assert captions_by_image(corpus) == CAPTIONS
    assert corpus.table("captions").to_pylist()[0] == {"caption_id": 100, "image_id": 1, "caption": "a dog"}
    assert counts.items() >= COUNTS.items()
    assert corpus.manifest.counts == counts


def test_build_captions_counts_images_with_fewer_or_more_than_five(
    tmp_path: Path, annotations: Path, images: Path
) -> None:
    counts = build(tmp_path, annotations, images)[1]
    assert (counts["images_with_fewer_than_5_captions"], counts["images_with_more_than_5_captions"]) == (1, 1)


def test_build_captions_leaves_the_images_where_they_are(tmp_path: Path, annotations: Path, images: Path) -> None:
    before = contents(images)
    corpus, _ = build(tmp_path, annotations, images)
    assert corpus.images == images
    assert all(path.is_file() for path in files_by_image(corpus).values())
    assert contents(images) == before
    assert sorted(path.name for path in corpus.folder.iterdir()) == [
        "README.md",
        "captions.parquet",
        "images.parquet",
        "left_out.parquet",
        "manifest.json",
    ]


def test_build_captions_records_where_it_comes_from(tmp_path: Path, annotations: Path, images: Path) -> None:
    provenance = build(tmp_path, annotations, images)[0].manifest.provenance
    assert provenance["split"] == "official"
    assert [*provenance["sources"]] == ["captions_val2014.json"]
    assert len(provenance["sources"]["captions_val2014.json"]) == 64


def test_build_captions_gives_the_same_tables_again(tmp_path: Path, annotations: Path, images: Path) -> None:
    build_captions(annotations, images, tmp_path / "first")
    build_captions(annotations, images, tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


@pytest.mark.parametrize(
    "layout",
    [
        "val2014/COCO_val2014_{:012}.jpg",
        "COCO_val2014_{:012}.jpg",
        "val2017/{:012}.jpg",
        "{:012}.jpg",
        "coco/images/train2017/{:012}.jpg",
    ],
)
def test_build_captions_finds_images_in_every_usual_layout(tmp_path: Path, annotations: Path, layout: str) -> None:
    folder = save_images(tmp_path / "images", [layout.format(i) for i in CAPTIONS])
    corpus, counts = build(tmp_path, annotations, folder)
    assert counts.items() >= COUNTS.items()
    assert corpus.table("images")["file"].to_pylist() == [layout.format(i) for i in CAPTIONS]


def test_image_folder_prefers_the_annotated_folder_then_the_name_then_the_number(tmp_path: Path) -> None:
    name, number = "COCO_val2014_000000000001.jpg", "000000000001.jpg"
    files = ImageFolder(save_images(tmp_path, [f"a/{number}", f"b/{name}", f"val2014/{name}"]))
    assert files.find(f"val2014/{name}") == f"val2014/{name}"
    assert files.find(name) == f"b/{name}"
    assert files.find("COCO_train2014_000000000001.jpg") == f"a/{number}"
    assert files.find("COCO_val2014_000000000002.jpg") is None


def test_image_folder_never_leaves_its_folder(tmp_path: Path) -> None:
    save_images(tmp_path, ["secret.jpg"])
    files = ImageFolder(save_images(tmp_path / "images", ["a.jpg"]))
    assert files.find("../secret.jpg") is None
    assert files.find(str(tmp_path / "secret.jpg")) is None


def test_build_captions_takes_karpathys_splits(tmp_path: Path) -> None:
    splits = {1: "train", 2: "restval", 3: "val", 4: "test"}
    file = save_json(tmp_path / "dataset_coco.json", karpathy(CAPTIONS, splits))
    folder = save_images(tmp_path / "images", [f"{i:012}.jpg" for i in CAPTIONS])
    corpus, counts = build(tmp_path, file, folder, split="karpathy")
    assert counts["splits"] == {"restval": 1, "test": 1, "train": 1, "val": 1}
    assert corpus.table("images")["split"].to_pylist() == [*splits.values()]


def test_build_captions_leaves_out_and_lists_missing_and_unreadable_images(
    tmp_path: Path, annotations: Path, images: Path
) -> None:
    (images / "val2014" / coco_name(1, "val2014")).unlink()
    (images / "val2014" / coco_name(3, "val2014")).write_bytes(b"no image")
    corpus, counts = build(tmp_path, annotations, images)
    assert (counts["images"], counts["captions"]) == (2, 6)
    assert (counts["images_missing"], counts["images_unreadable"]) == (1, 1)
    assert corpus.table("left_out").to_pylist() == [
        {"image_id": 1, "file": coco_name(1, "val2014"), "reason": "missing"},
        {"image_id": 3, "file": coco_name(3, "val2014"), "reason": "unreadable"},
    ]
    assert corpus.table("captions")["image_id"].unique().to_pylist() == [2, 4]


def test_build_captions_of_an_image_whose_captions_are_all_unusable_keeps_the_image(tmp_path: Path) -> None:
    file = save_json(tmp_path / "captions_val2014.json", official({1: TEXTS, 2: ("", "a\0b", "x" * 10_000)}))
    folder = save_images(tmp_path / "images", [f"{i:012}.jpg" for i in (1, 2)])
    corpus, counts = build(tmp_path, file, folder)
    assert (counts["images"], counts["captions"], counts["images_with_fewer_than_5_captions"]) == (2, 5, 1)
    skipped = {name: counts[f"captions_{name}"] for name in ("empty", "control_characters", "too_long")}
    assert set(skipped.values()) == {1}
    assert captions_by_image(corpus).keys() == {1}


def test_build_captions_without_one_image_says_which_folder_to_give(
    tmp_path: Path, annotations: Path, images: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        CorpusError, match=r"none of the 4 annotated images can be read; .*; give the folder that holds"
    ):
        build(tmp_path, annotations, empty)
    assert not (tmp_path / "corpus").exists()


def test_build_captions_without_the_folder_of_images_says_so(tmp_path: Path, annotations: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder of images"):
        build(tmp_path, annotations, tmp_path / "nowhere")


def test_build_captions_never_overwrites_a_folder(tmp_path: Path, annotations: Path, images: Path) -> None:
    build(tmp_path, annotations, images)
    before = contents(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="there is something here already"):
        build(tmp_path, annotations, images)
    assert contents(tmp_path / "corpus") == before


def test_build_captions_of_truncated_json_leaves_nothing_behind(
    tmp_path: Path, annotations: Path, images: Path
) -> None:
    annotations.write_text(annotations.read_text()[:-40])
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(CorpusError, match="truncated or damaged JSON"):
        build(tmp_path, annotations, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_build_captions_tells_how_far_it_is(tmp_path: Path, annotations: Path, images: Path) -> None:
    progress = Recorder.new()
    build(tmp_path, annotations, images, progress=progress)
    assert progress.stages == [("reading", None, "files"), ("images", 4, "images")]
    assert progress.advanced == {"images": 4}


def test_the_tables_open_with_pandas_style_readers(tmp_path: Path, annotations: Path, images: Path) -> None:
    import pyarrow.parquet as pq

    build(tmp_path, annotations, images)
    assert pq.read_table(tmp_path / "corpus" / "captions.parquet").num_rows == 17
    readme = (tmp_path / "corpus" / "README.md").read_text()
    assert all(f"`{column}`" in readme for column in ("image_id", "file", "split", "caption_id", "caption", "reason"))


def test_simat_data_coco_prints_the_counts_as_json(
    capsys: Any, tmp_path: Path, annotations: Path, images: Path
) -> None:
    ran = here(capsys, "data", "coco", annotations, images, tmp_path / "corpus", "--json")
    assert ran.json.items() >= {"corpus": str(tmp_path / "corpus"), **COUNTS}.items()


def test_simat_data_coco_says_in_words_what_is_missing(
    capsys: Any, tmp_path: Path, annotations: Path, images: Path
) -> None:
    (images / "val2014" / coco_name(1, "val2014")).unlink()
    ran = here(capsys, "data", "coco", annotations, images, tmp_path / "corpus", "--split", "official")
    assert ran.code == 0, ran.err
    assert "3 images with 12 captions in" in ran.out
    assert "images missing: 1" in ran.out
    assert "listed in left_out.parquet" in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "mine"), "--split is karpathy or official; got 'mine'"),
        (("--split", "karpathy"), "no captions with karpathy splits here"),
    ],
)
def test_simat_data_coco_with_a_wrong_split_is_one_line(
    capsys: Any, tmp_path: Path, annotations: Path, images: Path, options: tuple[str, ...], message: str
) -> None:
    ran = here(capsys, "data", "coco", annotations, images, tmp_path / "corpus", *options)
    assert ran.error.startswith(message)
    assert not (tmp_path / "corpus").exists()
