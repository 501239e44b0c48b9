"""Contact sheets of corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from building import here
from corpora import regions
from helpers import blotches
from PIL import Image

from data.corpus import Corpus, CorpusError, new_corpus
from data.show import draw_sheet, fitted, sample_cards
from data.simat.build import Sources, build_corpus
from simat.sheet import CELL, MARGIN

PAIR = [("dog", "sitting on a", "bed"), ("dog", "leaning on", "bed"), ("cat", "sitting on a", "bed")]
COLOURS = {
    "dog sitting on a bed": (200, 30, 30),
    "dog leaning on a bed": (30, 200, 30),
    "cat sitting on a bed": (30, 30, 200),
}


@pytest.fixture
def simat_corpus(tmp_path: Path) -> Path:
    """Nine regions, each in an image of its triplet's colour; one image is missing."""
    pool = regions(*PAIR, copies=3)
    for r, colour in zip(pool, [c for c in COLOURS.values() for _ in range(3)], strict=True):
        if r.region_id != 1:
            Image.new("RGB", (100, 80), colour).save(tmp_path / f"{r.image_id}.jpg", quality=95)
    build_corpus(pool, tmp_path / "corpus", sources=Sources(images=tmp_path))
    return tmp_path / "corpus"


def colour(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        found = np.asarray(image.convert("RGB"))[40, 50]
    return min(COLOURS.values(), key=lambda c: int(np.abs(found - np.array(c)).sum()))


def write_corpus(folder: Path, tables: dict[str, dict[str, list[Any]]]) -> Corpus:
    with new_corpus(folder) as writer:
        for number in range(4):
            blotches(number).save(writer.images / f"{number}.png")
        for name, columns in tables.items():
            writer.add_table(name, pa.table(columns), dict.fromkeys(columns, "something"))
        writer.finish("captions", {}, {"images": 4})
    return Corpus(folder)


def test_simat_cards_show_a_query_and_an_image_of_its_target(simat_corpus: Path) -> None:
    cards = sample_cards(Corpus(simat_corpus), 100, np.random.default_rng(0))

    assert len(cards) == 3 + 3 + 2 + 2  # the dog on the bed has two images left, and two queries each
    for card in cards:
        assert card.example is not None
        value, target = card.words.split(" -> ")
        assert value.removesuffix(" a") in card.caption
        assert target.removesuffix(" a") in card.example[1]
        for image, caption in ((card.image, card.caption), card.example):
            assert colour(image) == COLOURS[caption.removeprefix("A ").removesuffix(".")]


def test_sample_follows_the_seed(simat_corpus: Path) -> None:
    corpus = Corpus(simat_corpus)
    first, again, other = (sample_cards(corpus, 4, np.random.default_rng(seed)) for seed in (0, 0, 1))

    assert first == again != other
    assert len(first) == 4


def test_captions_beside_the_image_or_in_a_table_of_their_own_are_shown(tmp_path: Path) -> None:
    beside = {"samples": {"image": ["0.png", None, "2.png"], "captions": [["zero", "nought"], ["none"], ["two"]]}}
    apart = {
        "images": {"image_id": [7, 8], "file": ["0.png", "1.png"]},
        "captions": {"image_id": [8, 7, 7], "caption": ["eight", "seven", "again seven"]},
    }
    shown = {}
    for name, tables in (("beside", beside), ("apart", apart)):
        cards = sample_cards(write_corpus(tmp_path / name, tables), 9, np.random.default_rng(0))
        shown[name] = {card.image.name: card.words for card in cards}

    assert shown["beside"] == {"0.png": "zero · nought", "2.png": "two"}
    assert shown["apart"] == {"0.png": "seven", "1.png": "eight"}


def test_corpus_without_images_is_refused(tmp_path: Path) -> None:
    build_corpus(regions(*PAIR), tmp_path / "corpus")

    with pytest.raises(CorpusError, match="the corpus has no images to show"):
        sample_cards(Corpus(tmp_path / "corpus"), 3, np.random.default_rng(0))


def test_sheet_holds_each_image_with_its_example_beside_it(simat_corpus: Path) -> None:
    corpus = Corpus(simat_corpus)
    card = sample_cards(corpus, 1, np.random.default_rng(0))[0]
    assert card.example is not None
    sheet = np.asarray(draw_sheet(corpus, [card]))

    for path, left in ((card.image, MARGIN), (card.example[0], MARGIN + CELL + 12)):
        cell = sheet[MARGIN + 40 :, left : left + CELL][:CELL].reshape(-1, 3)
        np.testing.assert_allclose(np.median(cell, axis=0), colour(path), atol=6)


def test_sheet_survives_a_lost_image_and_long_captions(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"images": {"image": ["gone.png"], "caption": ["\x1b" * 10 + "x" * 10_000]}})

    assert draw_sheet(corpus, sample_cards(corpus, 3, np.random.default_rng(0))).width < 2_000
    assert fitted("a\nb", 100, 13) == "a?b"
    assert len(fitted("x" * 10_000, 100, 13)) < 30


def test_show_writes_a_sheet(simat_corpus: Path, tmp_path: Path, capsys: Any) -> None:
    found = here(capsys, "data", "show", simat_corpus, "--sheet", tmp_path / "s.png", "-n", "5", "--json").json

    assert found == {"corpus": str(simat_corpus), "sheet": str(tmp_path / "s.png"), "shown": 5}
    assert Image.open(tmp_path / "s.png").size[1] > 2 * CELL  # two rows


def test_show_refuses_in_one_line(simat_corpus: Path, tmp_path: Path, capsys: Any) -> None:
    no_corpus = here(capsys, "data", "show", tmp_path, "--sheet", tmp_path / "s.png").error
    no_image = here(capsys, "data", "show", simat_corpus, "--sheet", tmp_path / "s.txt").error

    assert no_corpus == f"no corpus here; got {tmp_path}; make one with 'simat data'"
    assert no_image == "a sheet is a .png, .jpg or .webp file; got s.txt"
