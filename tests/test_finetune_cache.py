"""Features of a corpus: the right vectors beside the right captions, whatever is read, killed or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import (
    CountingEncoder,
    Interrupted,
    Recorder,
    colour_plugin,
    contents,
    here,
    plugged_in,
    save_blotches,
)
from corpora import regions
from helpers import ColourEncoder, PixelColourEncoder, cosines

from data.coco_corpus import build_captions
from data.corpus import Corpus, CorpusError
from data.scenes.build import SceneOptions, build_scenes
from data.simat.build import Options, Sources, build_corpus
from finetune import cache as cache_module
from finetune.cache import build_cache, described_images
from finetune.pairs import open_features
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.images import load_image
from simat.types import EmbeddingSpace

IMAGES, EACH = 23, 3


class Ears:
    """Texts to another space than the pictures'."""

    space = EmbeddingSpace("ears", "ea25", 49)

    def __init__(self, limit: int | None = None) -> None:
        self.encoded, self._limit = 0, limit

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        self.encoded += len(texts)
        if self._limit is not None and self.encoded > self._limit:
            raise Interrupted
        return ColourEncoder().encode_texts(texts)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Captioned pictures, one of which is broken and one of which has no caption."""
    place = tmp_path_factory.mktemp("captions")
    photos = save_blotches(place / "photos", IMAGES + 1)
    images = [{"id": n, "file_name": f"{n:04}.png", "width": 48, "height": 32} for n in range(IMAGES + 1)]
    captions = [
        {"id": 100 * n + i, "image_id": n, "caption": f"picture {n}, words {i}"}
        for n in range(IMAGES)
        for i in range(EACH)
    ]
    (place / "captions_train2017.json").write_text(json.dumps({"images": images, "annotations": captions}))
    build_captions(place / "captions_train2017.json", photos, place / "corpus")
    data = (photos / "0005.png").read_bytes()
    (photos / "0005.png").write_bytes(data[: len(data) // 2])
    return Corpus(place / "corpus")


@pytest.fixture(scope="module")
def cache(corpus: Corpus) -> Path:
    out = corpus.folder.parent / "cache"
    counts = build_cache(corpus, PixelColourEncoder(), Ears(), out)
    assert counts == {"images": IMAGES - 1, "captions": (IMAGES - 1) * EACH, "rejected": 1}
    return out


def texts(cache: Path) -> list[dict[str, Any]]:
    return [row for part in sorted((cache / "texts").iterdir()) for row in pq.read_table(part).to_pylist()]


def test_every_caption_stands_beside_its_image(corpus: Corpus, cache: Path) -> None:
    images = EmbeddingSet(cache / "images")
    rows = texts(cache)
    assert len(rows) == (IMAGES - 1) * EACH
    for row in rows:
        number = int(row["caption"].split()[1].rstrip(","))
        assert number != 5
        assert images.rows(np.array([row["image_row"]]))[0].path == f"{number:04}.png"
        assert row["split"] == "train"
    assert len({row["caption_id"] for row in rows}) == len(rows)


def test_vectors_are_those_of_the_towers(corpus: Corpus, cache: Path) -> None:
    images, rows = EmbeddingSet(cache / "images"), texts(cache)
    stored = images.vectors(np.arange(len(images)))
    pictures = [load_image(images.resolve(row)) for row in images.rows(np.arange(len(images)))]
    assert cosines(stored, PixelColourEncoder().encode_images(pictures)).min() > 1 - 1e-5
    said = np.array([row["embedding"] for row in rows], np.float32)
    assert cosines(said, Ears().encode_texts([row["caption"] for row in rows])).min() > 1 - 1e-5


def test_document_names_both_spaces_and_every_file(cache: Path) -> None:
    document = json.loads((cache / "cache.json").read_text())
    assert document["format"] == "simat/features"
    assert (document["image_space"]["encoder"], document["text_space"]["encoder"]) == ("colours", "ears")
    assert [entry["name"] for entry in document["texts"]] == ["texts/part-000000.parquet"]
    assert sum(entry["rows"] for entry in document["texts"]) == document["counts"]["captions"]
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "cache.json", "images", "texts"]


def test_making_it_again_finds_it_done(corpus: Corpus, cache: Path) -> None:
    before, ears, eyes = contents(cache), Ears(), CountingEncoder()
    build_cache(corpus, eyes, ears, cache)
    assert (ears.encoded, eyes.encoded) == (0, 0)
    assert contents(cache) == before


@pytest.mark.parametrize("who", ["eyes", "ears"])
def test_a_killed_run_goes_on_and_ends_the_same(
    corpus: Corpus, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(cache_module, "PART", 20)
    monkeypatch.setattr(cache_module, "BATCH", 7)
    whole = tmp_path / "whole"
    build_cache(corpus, PixelColourEncoder(), Ears(), whole)
    eyes, ears = (CountingEncoder(5) if who == "eyes" else PixelColourEncoder()), Ears(45 if who == "ears" else None)
    with pytest.raises(Interrupted):
        build_cache(corpus, eyes, ears, tmp_path / "out")
    again = Ears()
    build_cache(corpus, PixelColourEncoder(), again, tmp_path / "out")
    assert again.encoded == (66 if who == "eyes" else 26), "finished parts are kept"
    assert contents(tmp_path / "out") == contents(whole)


def test_progress_counts_images_and_captions(corpus: Corpus, tmp_path: Path) -> None:
    seen = Recorder.new()
    build_cache(corpus, PixelColourEncoder(), Ears(), tmp_path / "out", progress=seen)
    assert seen.advanced == {"embed": IMAGES, "captions": (IMAGES - 1) * EACH}
    assert seen.notes == [f"{IMAGES} images, {IMAGES * EACH} captions"]


def test_training_opens_what_was_cached(cache: Path) -> None:
    features = open_features(cache)
    assert (features.image_space, features.text_space) == (PixelColourEncoder().space, Ears().space)
    assert features.images.shape == (IMAGES - 1, 49)
    assert features.image_rows.tolist() == [row["image_row"] for row in texts(cache)]
    assert set(features.splits) == {"train"}


def test_command_caches_with_any_encoder(corpus: Corpus, tmp_path: Path, capsys: Any) -> None:
    with plugged_in(colour_plugin(tmp_path / "site")):
        flags = ("--encoder", "combined:image=colours,text=minilm", "--workers", "1", "--json")
        ran = here(capsys, "finetune", "cache", corpus.folder, tmp_path / "out", *flags)
        assert ran.json == {
            "cache": str(tmp_path / "out"), "images": IMAGES - 1, "captions": (IMAGES - 1) * EACH, "rejected": 1,
        }  # fmt: skip
        features = open_features(tmp_path / "out")
        assert (features.image_space.encoder, features.text_space.encoder) == ("colours", "minilm")
        line = here(capsys, "finetune", "cache", corpus.folder, tmp_path / "no", "--encoder", "minilm").error
        assert line.startswith("this encoder reads texts only; got 'minilm'")


def test_another_encoder_or_folder_is_refused(corpus: Corpus, cache: Path, tmp_path: Path) -> None:
    before = contents(cache)
    with pytest.raises(BuildError, match=r"was begun with another image_space, another text_space; repeat"):
        build_cache(corpus, PixelColourEncoder("07e4"), ColourEncoder(), cache)
    assert contents(cache) == before
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BuildError, match=r"the folder holds something else"):
        build_cache(corpus, PixelColourEncoder(), Ears(), tmp_path)
    with pytest.raises(BuildError, match=r"the cache must be a folder"):
        build_cache(corpus, PixelColourEncoder(), Ears(), tmp_path / "mine.txt")


def test_scenes_have_five_captions_each(tmp_path: Path) -> None:
    build_scenes(tmp_path / "scenes", SceneOptions(images=6, size=64), workers=1)
    found = described_images(Corpus(tmp_path / "scenes"))
    assert [len(image.captions) for image in found] == [5] * 6
    counts = build_cache(Corpus(tmp_path / "scenes"), PixelColourEncoder(), Ears(), tmp_path / "cache")
    assert counts == {"images": 6, "captions": 30, "rejected": 0}


def test_regions_have_the_caption_of_their_triplet_and_the_split_of_their_domain(tmp_path: Path) -> None:
    triplets = [(s, "biting", o) for s in ("cat", "dog") for o in ("bus", "cup")]
    triplets += [(s, "licking", o) for s, _, o in triplets]
    made = regions(*triplets)
    save_blotches(tmp_path / "photos", len(made), 1)
    for path in (tmp_path / "photos").iterdir():
        load_image(path).resize((120, 90)).save(path.with_name(f"{int(path.stem)}.jpg"))
    build_corpus(made, tmp_path / "corpus", Options(), Sources(images=tmp_path / "photos"))
    found = described_images(Corpus(tmp_path / "corpus"))
    by_id = {region.region_id: region for region in made}
    assert len(found) == len(made)
    assert {image.split for image in found} == {"dev", "test"}
    for image in found:
        region = by_id[int(Path(image.file).stem)]
        assert image.captions == (f"A {region.subject} {region.relation} a {region.object}.",)


def test_a_corpus_without_captions_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    document = json.loads((corpus.folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**document, "kind": "edits"}))
    with pytest.raises(CorpusError, match=r"a corpus of kind 'edits' has no captions"):
        described_images(Corpus(tmp_path))


def test_a_corpus_without_one_readable_image_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    document = json.loads((corpus.folder / "manifest.json").read_text())
    for name in ("images.parquet", "captions.parquet", "left_out.parquet"):
        (tmp_path / name).write_bytes((corpus.folder / name).read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({**document, "images": str(tmp_path / "gone")}))
    with pytest.raises(BuildError, match=r"no image of the corpus can be read; got .*gone"):
        build_cache(Corpus(tmp_path), PixelColourEncoder(), Ears(), tmp_path / "cache")
