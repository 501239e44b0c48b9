"""A SIMAT corpus of the scene world, by the same builder that reads Visual Genome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from building import simat
from PIL import Image

from data.corpus import Corpus
from data.scenes.world import RELATIONS, SUBJECTS, triplets

IMAGES = 2 * len(triplets()) + 200  # two of each triplet: what the rule asks for


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "scenes"
    ran = simat("data", "scenes", out, "--images", str(IMAGES), "--size", "64", "--seed", "5")
    assert ran.code == 0, ran.err
    return out


@pytest.fixture(scope="module")
def counts(scenes: Path) -> dict[str, Any]:
    ran = simat(
        "data", "simat", "build", scenes / "visual_genome", scenes.parent / "simat", "--min-area", "0", "--json"
    )
    assert any("vocabulary.json" in str(line.get("note")) for line in ran.progress)
    counts: dict[str, Any] = ran.json
    return counts


@pytest.fixture(scope="module")
def corpus(scenes: Path, counts: dict[str, Any]) -> Corpus:
    return Corpus(scenes.parent / "simat", "simat")


def test_the_builder_takes_every_annotation(counts: dict[str, Any]) -> None:
    assert counts["annotated relationships"] == IMAGES
    lost = {name for name in counts if name.startswith("skipped: ")}
    assert lost <= {"skipped: crop too long"}, "these are no faults of a document"


def test_the_corpus_is_of_the_world(counts: dict[str, Any], corpus: Corpus) -> None:
    rows = corpus.table("triplets").to_pylist()
    found = {(row["subj"], row["rel"], row["obj"]) for row in rows}
    assert found <= set(triplets())
    assert len(found) == counts["triplets"] > 800
    assert {s for s, _, _ in found} == set(SUBJECTS)
    assert {r for _, r, _ in found} == set(RELATIONS)
    assert all(counts[f"queries {field}"] > 1000 for field in ("subj", "rel", "obj"))


def test_regions_show_what_the_scene_shows(scenes: Path, corpus: Corpus) -> None:
    truth = {row["image_id"]: row for row in Corpus(scenes, "scenes").table("scenes").to_pylist()}
    for row in corpus.table("regions").to_pylist():
        scene = truth[row["image_id"]]
        assert (row["subj"], row["rel"], row["obj"]) == (scene["subject"], scene["relation"], scene["object"])
        assert (row["subj_bbox"], row["obj_bbox"]) == (scene["subject_box"], scene["object_box"])
        assert scene["subject_colour"] in row["subj_attr"]


def test_crops_are_subject_and_object(corpus: Corpus) -> None:
    for row in corpus.table("regions").to_pylist()[:50]:
        x0, y0, x1, y1 = row["bbox"]
        with Image.open(corpus.images / row["image"]) as crop:
            assert crop.size == (x1 - x0, y1 - y0)


def test_small_scenes_have_crops_too_small_for_simat(scenes: Path) -> None:
    line = simat("data", "simat", "build", scenes / "visual_genome", scenes.parent / "none").error
    assert line.startswith("no triplet passes the rule")
    assert not (scenes.parent / "none").exists()
