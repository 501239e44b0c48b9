"""The whole way: Visual Genome's raw files and images, through the command, to a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from building import Ran, here
from genomes import HEIGHT, WIDTH, Genome, genome, of_one, relationship, thing
from helpers import blotches
from PIL import Image

from data.corpus import Corpus

SUBJECTS, RELATIONS, OBJECTS = ("cat", "Dog "), ("Sitting on", "licking"), ("laptop", "chair")
TRIPLETS = 8  # all combinations
COPIES = 2


def small_genome() -> Genome:
    """Each triplet in two images of its own, a triplet a region."""
    numbers, items = count(1), {}
    for image_id, (words, _) in enumerate(product(product(SUBJECTS, RELATIONS, OBJECTS), range(COPIES)), 1):
        subject, predicate, obj = words
        items[image_id] = [relationship(next(numbers), *_pair(image_id, subject, predicate, obj))]
    return genome(items, {3: ["Furry"]})


def _pair(image_id: int, subject: str, predicate: str, obj: str) -> Iterator[Any]:
    yield thing(2 * image_id + 1, subject, (10 * image_id, 20, 200, 150))
    yield predicate
    yield thing(2 * image_id + 2, obj, (10 * image_id + 50, 60, 220, 150))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The raw files, with an image of each in one of Visual Genome's two folders."""
    made = small_genome()
    for image in made.image_data:
        place = tmp_path / "genome" / ("VG_100K", "VG_100K_2")[image["image_id"] % 2]
        place.mkdir(parents=True, exist_ok=True)
        blotches(image["image_id"], (WIDTH, HEIGHT)).save(place / f"{image['image_id']}.jpg")
    return made.write(tmp_path / "genome")


def built(capsys: Any, folder: Path, *flags: str) -> Ran:
    """The command, with its corpus beside the raw files."""
    return here(capsys, "data", "simat", "build", folder, folder.with_name("corpus"), "--json", *flags)


def test_raw_files_become_a_corpus(folder: Path, capsys: Any) -> None:
    counts = built(capsys, folder, "--oracle", "none").json
    corpus = Corpus(folder.with_name("corpus"), "simat")
    assert counts["annotated relationships"] == counts["annotated regions"] == counts["regions"] == TRIPLETS * COPIES
    assert counts["triplets"] == TRIPLETS
    assert counts["queries"] == TRIPLETS * COPIES * 3
    assert counts["crops"] == len(list(corpus.images.glob("*.jpg"))) == TRIPLETS * COPIES
    with Image.open(corpus.images / "1.jpg") as crop:
        assert crop.size == (270, 190)
    assert corpus.manifest.counts["annotated images"] == TRIPLETS * COPIES
    names = {"relationships.json", "objects.json", "attributes.json", "image_data.json"}
    assert set(corpus.manifest.provenance["sources"]) == names


def test_annotations_and_images_that_are_bad_are_counted(folder: Path, capsys: Any) -> None:
    made = small_genome()
    made.relationships[0]["relationships"] += [None, of_one(901, predicate="near"), {**of_one(902), "subject": {}}]
    made.write(folder)
    (folder / "VG_100K" / "4.jpg").unlink()
    (folder / "VG_100K_2" / "5.jpg").write_bytes(b"no picture")
    counts = built(capsys, folder, "--oracle", "none").json
    assert counts["annotated relationships"] == TRIPLETS * COPIES + 3
    skipped = {name: number for name, number in counts.items() if name.startswith("skipped: ")}
    assert skipped == {
        "skipped: name missing or unusable": 1,
        "skipped: no annotation": 1,
        "skipped: outside the vocabulary": 1,
    }
    assert (counts["images missing"], counts["images unreadable"]) == (1, 1)
    assert counts["crops"] == TRIPLETS * COPIES - 2


def test_a_cut_off_file_is_one_line_and_leaves_nothing(folder: Path, capsys: Any) -> None:
    path = folder / "relationships.json"
    path.write_bytes(path.read_bytes()[:-100])
    line = built(capsys, folder).error
    assert line.startswith(f"{path} is cut off or damaged at its end, in or after record {TRIPLETS * COPIES}")
    assert [path.name for path in folder.parent.iterdir()] == ["genome"]


def test_a_folder_without_the_files_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "genome").mkdir()
    assert "relationships.json: No such file" in built(capsys, tmp_path / "genome").error
