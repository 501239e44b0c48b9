"""The readers of the real data sets, on the scene world's documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.coco import read_annotations
from data.scenes.build import SceneOptions, build_scenes
from data.simat.vocabulary import VOCABULARY_FILE, read_vocabulary
from data.visual_genome.regions import ReadingOptions, ReadingReport, read_regions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "corpus"
    build_scenes(out, SceneOptions(images=20, size=64), workers=1)
    return out


def test_visual_genome_reader_finds_nothing_wrong(folder: Path) -> None:
    report = ReadingReport()
    words = read_vocabulary(folder / "visual_genome" / VOCABULARY_FILE)
    read_regions(folder / "visual_genome", report=report, options=ReadingOptions(words, min_area=0))
    assert (report.images, report.relationships, report.missing_files) == (20, 20, [])
    assert set(report.skipped) <= {"crop too long"}, "this is no fault of a document"


def test_coco_reader_takes_the_captions(folder: Path) -> None:
    assert len(read_annotations(folder / "coco/captions.json").images) == 20
