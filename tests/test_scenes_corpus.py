from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Recorder, simat
from PIL import Image

from data.corpus import Corpus, CorpusError
from data.scenes.build import SceneOptions, build_scenes, estimate
from data.scenes.formats import categories
from data.scenes.record import IMAGES as IMAGES_FOLDER
from data.scenes.record import run_lengths
from data.scenes.render import OBJECT, SUBJECT, render
from data.scenes.scene import SceneError, sample
from data.scenes.world import triplets
from data.show import sample_cards

EVERY = triplets()
IMAGES = len(EVERY)
OPTIONS = SceneOptions(images=IMAGES, size=64, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "corpus"
    # In processes of its own, where no annotation is checked: it draws the whole world.
    assert (
        simat("data", "scenes", out, "--images", str(IMAGES), "--size", "64", "--seed", "3", "--workers", "2").code == 0
    )
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return Corpus(folder, "scenes").table("scenes").to_pylist()


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def unrolled(segmentation: dict[str, Any]) -> np.ndarray:
    """A slow reader of COCO's run lengths."""
    values: list[bool] = []
    for n, count in enumerate(segmentation["counts"]):
        values += [n % 2 == 1] * count
    return np.array(values).reshape(segmentation["size"], order="F")


def test_corpus_has_a_row_and_three_files_for_every_image(folder: Path, rows: list[dict[str, Any]]) -> None:
    assert [row["image_id"] for row in rows] == list(range(1, IMAGES + 1))
    for row in rows:
        for name in (f"{IMAGES_FOLDER}/{row['image']}", row["mask"], f"coco/stuffthingmaps/{row['image_id']}.png"):
            with Image.open(folder / name) as image:
                assert image.size == (64, 64)


def test_every_triplet_is_drawn_whole_and_large_enough(rows: list[dict[str, Any]]) -> None:
    assert {(row["subject"], row["relation"], row["object"]) for row in rows} == set(EVERY)
    for row in rows:
        for role, least in (("subject", 0.02), ("object", 0.01)):
            x0, y0, x1, y1 = row[f"{role}_box"]
            assert row[f"{role}_area"] >= least * 64**2, row["captions"][0]
            assert 0 < x0 < x1 < 64, row["captions"][0]
            assert 0 < y0 < y1 < 64, row["captions"][0]
        x0, y0, x1, y1 = row["subject_box"]
        assert max(x1 - x0, y1 - y0) >= 16, row["captions"][0]


def test_corpus_tells_what_its_scenes_are(rows: list[dict[str, Any]]) -> None:
    for row in rows[::25]:
        scene = sample(3, row["image_id"] - 1)
        rendered = render(scene, 64)
        assert (row["subject"], row["relation"], row["object"]) == scene.triplet
        assert (row["subject_colour"], row["object_colour"], row["place"]) == (*scene.colours, scene.place)
        assert tuple(row["subject_box"]) == rendered.box(SUBJECT)
        assert tuple(row["object_box"]) == rendered.box(OBJECT)
        assert row["subject_area"] == rendered.mask(SUBJECT).sum()
        assert row["subject_facing"] == scene.facing


def test_pictures_and_masks_are_those_of_the_scene(folder: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows[:20]:
        rendered = render(sample(3, row["image_id"] - 1), 64)
        picture = np.asarray(Image.open(folder / IMAGES_FOLDER / row["image"]), dtype=int)
        ids = np.asarray(Image.open(folder / row["mask"]))
        assert np.abs(picture - np.asarray(rendered.image, dtype=int)).mean() < 4
        assert (ids == np.where(rendered.segments <= OBJECT, rendered.segments, 0)).all()


def test_sheet_of_the_corpus_shows_pictures_and_captions(folder: Path) -> None:
    cards = sample_cards(Corpus(folder, "scenes"), 12, np.random.default_rng(0))
    assert len(cards) == 12
    for card in cards:
        assert sample(3, int(card.image.stem) - 1).triplet[0] in card.words
        assert card.image.is_file()


def test_manifest_says_seed_versions_and_counts(folder: Path) -> None:
    manifest = Corpus(folder).manifest
    assert {"seed": 3, "size": 64, "images": IMAGES, "world_version": 2}.items() <= dict(manifest.provenance).items()
    assert manifest.counts["images"] == IMAGES == manifest.counts["triplets"]
    assert sum(manifest.counts["places"].values()) == IMAGES


def test_visual_genome_documents_agree_with_the_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    pages = [
        document(folder, f"visual_genome/{n}.json") for n in ("relationships", "objects", "attributes", "image_data")
    ]
    for row, page, objects, attributes, image in zip(rows, *pages, strict=True):
        assert row["image_id"] == page["image_id"] == objects["image_id"] == attributes["image_id"] == image["image_id"]
        (relationship,) = page["relationships"]
        assert relationship["predicate"] == row["relation"]
        assert (image["width"], image["height"]) == (64, 64)
        for n, role in enumerate(("subject", "object")):
            thing, named = relationship[role], objects["objects"][n]
            x0, y0, x1, y1 = row[f"{role}_box"]
            assert (thing["x"], thing["y"], thing["w"], thing["h"]) == (x0, y0, x1 - x0, y1 - y0)
            assert thing["name"] == row[role] == named["names"][0]
            assert thing["object_id"] == named["object_id"]
            words = attributes["attributes"][n].get("attributes", [])
            assert row[f"{role}_colour"] in [*words, ""]


def test_ids_are_unique_over_the_whole_corpus(folder: Path) -> None:
    ids = [o["object_id"] for page in document(folder, "visual_genome/objects.json") for o in page["objects"]]
    assert len(set(ids)) == len(ids) == 2 * IMAGES
    coco = document(folder, "coco/instances.json")["annotations"]
    assert sorted(annotation["id"] for annotation in coco) == sorted(ids)


def test_coco_instances_are_the_masks(folder: Path, rows: list[dict[str, Any]]) -> None:
    instances = document(folder, "coco/instances.json")
    names = {category["id"]: category["name"] for category in instances["categories"]}
    for n, annotation in enumerate(instances["annotations"][:100]):
        row, role = rows[n // 2], ("subject", "object")[n % 2]
        mask = np.asarray(Image.open(folder / row["mask"])) == n % 2 + 1
        assert (unrolled(annotation["segmentation"]) == mask).all()
        x0, y0, x1, y1 = row[f"{role}_box"]
        assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert annotation["area"] == mask.sum()
        assert names[annotation["category_id"]] == row[role]


def test_coco_captions_are_five_an_image(folder: Path, rows: list[dict[str, Any]]) -> None:
    found = document(folder, "coco/captions.json")
    assert [image["id"] for image in found["images"]] == [row["image_id"] for row in rows]
    assert len({annotation["id"] for annotation in found["annotations"]}) == 5 * IMAGES
    for row in rows[::25]:
        mine = [a["caption"] for a in found["annotations"] if a["image_id"] == row["image_id"]]
        assert mine == row["captions"]
        assert row["caption"] in mine


def test_coco_maps_hold_known_categories_and_the_things(folder: Path, rows: list[dict[str, Any]]) -> None:
    known = {category["id"]: category["name"] for category in categories()}
    assert known == {c["id"]: c["name"] for c in document(folder, "coco/categories.json")}
    for row in rows[::5]:
        values = np.asarray(Image.open(folder / f"coco/stuffthingmaps/{row['image_id']}.png")) + 1
        ids = np.asarray(Image.open(folder / row["mask"]))
        assert {known[int(v)] for v in np.unique(values[ids == 1])} == {row["subject"]}
        assert {known[int(v)] for v in np.unique(values[ids == 2])} == {row["object"]}
        assert (values[ids == 0] >= 92).all()


def test_processes_do_not_change_a_byte(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for out, workers in ((one, 1), (two, 2)):
        build_scenes(out, SceneOptions(60, 64, 5), workers)
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_progress_gives_an_estimate_and_counts_every_image(tmp_path: Path) -> None:
    recorder = Recorder.new()
    build_scenes(tmp_path / "corpus", SceneOptions(7, 64), 1, recorder)
    assert recorder.stages == [("render", 7, "images")]
    assert recorder.advanced == {"render": 7}
    assert "7 images" in recorder.notes[0]
    assert "minutes" in recorder.notes[0]


def test_estimate_of_bytes_is_not_exceeded(folder: Path) -> None:
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert size <= estimate(OPTIONS, 1)[1] <= 8 * size


def test_corpus_is_never_overwritten(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(CorpusError, match="something here already"):
        build_scenes(folder, OPTIONS, 1)
    assert (folder / "manifest.json").read_bytes() == before


def test_full_disk_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.scenes.build.estimate", lambda options, workers: (1.0, 10**18))
    with pytest.raises(CorpusError, match=r"too full.*free"):
        build_scenes(tmp_path / "corpus", OPTIONS, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"images": 0}, "number of images"),
        ({"size": 32}, "size must be"),
        ({"size": 1024}, "size must be"),
        ({"seed": -1}, "negative"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], match: str) -> None:
    with pytest.raises(SceneError, match=match):
        SceneOptions(**options)


@pytest.mark.parametrize("first", [False, True])
def test_run_lengths_begin_outside(first: bool) -> None:
    mask = np.zeros((3, 2), dtype=bool)
    mask[0, 0] = first
    mask[2, 1] = True
    assert run_lengths(mask) == ([0, 1, 4, 1] if first else [5, 1])
    assert (unrolled({"size": [3, 2], "counts": run_lengths(mask)}) == mask).all()


def test_command_makes_a_corpus_and_says_so(tmp_path: Path) -> None:
    ran = simat("data", "scenes", tmp_path / "corpus", "--images", "5", "--size", "64", "--seed", "9", "--json")
    assert ran.json["images"] == 5
    assert Corpus(tmp_path / "corpus", "scenes").manifest.provenance["seed"] == 9


def test_command_refuses_a_bad_size_in_one_line(tmp_path: Path) -> None:
    ran = simat("data", "scenes", tmp_path / "corpus", "--size", "5000")
    assert "size must be in [64, 512]" in ran.error
