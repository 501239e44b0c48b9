"""ImageNet's and COCO's protocols as cases of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cocofiles import coco_name, official, save_images, save_json
from PIL import Image

from data.coco_corpus import build_captions
from data.corpus import Corpus, CorpusError
from data.imagenet_classes import imagenet_classes
from data.imagenet_edits import EditQuery, write_queries
from eval.editing.coco import bison_edits, stuff_layouts
from eval.editing.imagenet import allowed_classes, imagenet_edits, real_pictures
from eval.editing.protocols import EditOptions, edit_protocol
from simat.errors import QueryError

CAPTIONS = {1: ["a dog runs on the green grass", "one animal"], 2: ["a cat sleeps on a red sofa"], 3: ["a bus"]}


@pytest.fixture
def imagenet(tmp_path: Path) -> tuple[Path, Path]:
    """Two queries, one of the test set, and their images."""
    fox, wolf = (next(c for c in imagenet_classes() if c.name == name) for name in ("red fox", "timber wolf"))
    rows = [EditQuery(f"{a.wnid}/{a.wnid}_1.JPEG", a.name, a.index, b.name, b.index, test)
            for a, b, test in ((fox, wolf, True), (wolf, fox, False))]  # fmt: skip
    write_queries(tmp_path / "queries.csv", rows)
    return tmp_path / "queries.csv", save_images(tmp_path / "val", [row.path for row in rows])


@pytest.fixture
def coco(tmp_path: Path) -> Corpus:
    save_json(tmp_path / "captions_val2014.json", official(CAPTIONS))
    save_images(tmp_path / "images", [coco_name(i, "val2014") for i in CAPTIONS])
    build_captions(tmp_path / "captions_val2014.json", tmp_path / "images", tmp_path / "corpus")
    return Corpus(tmp_path / "corpus")


def test_imagenet_asks_for_the_target_class_of_the_test_set(imagenet: tuple[Path, Path]) -> None:
    (case,) = imagenet_edits(*imagenet)
    assert (case.text, case.reference, case.edits) == ("timber wolf", "red fox", "red fox -> timber wolf")
    assert case.target is not None
    assert case.target[0] in allowed_classes()
    assert case.picture().size == (8, 6)
    assert [case.text for case in imagenet_edits(*imagenet, test=False)] == ["red fox"]
    assert len(allowed_classes()) == 273


def test_imagenet_without_its_images_is_an_error(imagenet: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="1 of 1 images are not there"):
        imagenet_edits(imagenet[0], tmp_path)
    reals = real_pictures(imagenet[1], {"red fox"}, per_class=1)
    assert [picture.size for picture in reals["red fox"]] == [(8, 6)]
    with pytest.raises(CorpusError, match="a target class has no real pictures; got dingo"):
        real_pictures(imagenet[1], {"dingo"})


def test_imagenet_is_measured_through_the_extractors_that_are_named(imagenet: tuple[Path, Path]) -> None:
    queries, images = imagenet
    options = EditOptions(str(queries), images=images, reals=images, distance="none", classifier="efficientnet",
                          features="efficientnet")  # fmt: skip
    protocol = edit_protocol(options)
    assert [c.label for m in protocol.meters for c in m.columns] == ["Change of pixels", "Accuracy on efficientnet"]
    assert set(protocol.published) == {"copy", "encode", "retrieve", "flexit"}
    with pytest.raises(QueryError, match="ImageNet's queries need the validation images"):
        edit_protocol(EditOptions(str(queries)))


def test_bison_edits_the_image_that_the_caption_contradicts(coco: Corpus, tmp_path: Path) -> None:
    candidates = [{"image_id": i, "image_filename": coco_name(i, "val2014")} for i in (1, 2)]
    texts = ["a dog runs on the brown grass", "two horses and a train near the sea"]
    data = [{"bison_id": n, "caption_id": n, "caption": text, "image_candidates": candidates, "true_image_id": 2}
            for n, text in enumerate(texts)]  # fmt: skip
    annotations = save_json(tmp_path / "bison.json", {"data": data})
    near, far = bison_edits(coco, annotations)
    assert (near.text, near.reference) == (texts[0], CAPTIONS[1][0])
    assert far.text == texts[1]
    assert [case.text for case in bison_edits(coco, annotations, filtered=True)] == [texts[0]]
    assert far.edits == ""


def test_layouts_of_coco_stuff_name_their_segments_in_the_prompt(coco: Corpus, tmp_path: Path) -> None:
    pixels = np.full((6, 8), 255, np.uint8)
    pixels[:3], pixels[5, 0] = 17, 16  # dog, and a pixel of cat
    (tmp_path / "maps").mkdir()
    Image.fromarray(pixels).save(tmp_path / "maps" / "000000000001.png")
    (every,) = stuff_layouts(coco, tmp_path / "maps", "all")
    assert set(every.segments) == {"cat", "dog"}
    assert all(name in every.text for name in every.segments)
    assert any(every.text.startswith(caption) for caption in CAPTIONS[1])
    (large,) = stuff_layouts(coco, tmp_path / "maps", "filtered")
    np.testing.assert_array_equal(large.segments["dog"], pixels == 17)
    assert set(large.segments) == {"dog"}
    with pytest.raises(QueryError, match="no such protocol; got 'some'"):
        stuff_layouts(coco, tmp_path / "maps", "some")
    with pytest.raises(CorpusError, match="no image of the corpus has a map"):
        stuff_layouts(coco, tmp_path, "all")
