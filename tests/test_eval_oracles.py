"""Oracles: two orders of regions, ranges, thresholds, and a BLIP of a few kilobytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from triplet_world import TripletEncoder, triplet_corpus

from data.corpus import Corpus, CorpusError
from data.simat.importing import ORACLE_FILE
from data.simat.tensors import write_tensors
from eval.blip import Blip
from eval.features import image_files
from eval.oracles import calibrated_threshold, checked, matrix_judge, open_oracle, threshold_judge
from simat.errors import EncoderError, QueryError
from simat.images import decode, read_bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return triplet_corpus(tmp_path_factory.mktemp("triplets"))


def truth(corpus: Corpus) -> np.ndarray:
    """The annotation as a matrix in the order of the released one: regions by their numbers as text."""
    regions = corpus.table("regions").to_pylist()
    matrix = np.zeros((len(regions), corpus.table("triplets").num_rows), np.float32)
    for row, region in enumerate(sorted(regions, key=lambda r: (r["caption_id"], str(r["region_id"])))):
        matrix[row, region["caption_id"]] = 0.5 + 0.4 * region["region_id"] / 1000
    return matrix


def all_pairs(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    regions, captions = corpus.table("regions").num_rows, corpus.table("triplets").num_rows
    rows, columns = np.divmod(np.arange(regions * captions), captions)
    return rows.astype(np.int64), columns.astype(np.int64)


def test_matrix_is_read_in_its_own_order_of_regions(corpus: Corpus) -> None:
    rows, columns = all_pairs(corpus)
    found = matrix_judge(truth(corpus), corpus)(rows, columns)
    ids = corpus.table("regions")["region_id"].to_numpy()
    annotated = open_oracle("annotation", corpus).judge(rows, columns)
    np.testing.assert_allclose(found, np.where(annotated > 0, 0.5 + 0.4 * ids[rows] / 1000, 0), atol=1e-6)
    matrix_rows = corpus.table("regions")["matrix_row"].to_numpy()
    assert (matrix_rows != np.arange(len(matrix_rows))).any()  # the trap is there


@pytest.mark.parametrize("form", ["own", "npy", "safetensors"])
def test_matrix_comes_from_the_corpus_or_a_file(corpus: Corpus, tmp_path: Path, form: str) -> None:
    matrix, rows, columns = truth(corpus), *all_pairs(corpus)
    if form == "npy":
        np.save(tmp_path / "m.npy", matrix)
        oracle = open_oracle(f"matrix:{tmp_path / 'm.npy'}", corpus)
    else:
        path = (corpus.folder if form == "own" else tmp_path) / ORACLE_FILE
        write_tensors(path, {"probabilities": matrix})
        oracle = open_oracle("matrix" if form == "own" else f"matrix:{path}", corpus)
    assert (oracle.judge(rows, columns) == matrix_judge(matrix, corpus)(rows, columns)).all()


def test_matrix_of_another_shape_is_refused(corpus: Corpus) -> None:
    matrix = truth(corpus)
    rows, columns = matrix.shape
    with pytest.raises(QueryError, match=rf"must be {rows} x {columns}; got {rows - 1} x {columns}; one row per"):
        matrix_judge(matrix[1:], corpus)
    with pytest.raises(QueryError, match=rf"got {columns} x {rows}"):
        matrix_judge(matrix.T, corpus)


@pytest.mark.parametrize("bad", [-0.25, 1.5, np.nan])
def test_numbers_that_are_no_probabilities_are_refused(corpus: Corpus, bad: float) -> None:
    matrix = truth(corpus)
    matrix[3, 4] = bad
    with pytest.raises(QueryError, match=r"matrix has numbers outside \[0, 1\]; got .*; probabilities lie in"):
        matrix_judge(matrix, corpus)
    judge = checked(lambda rows, captions: np.full(len(rows), bad))
    with pytest.raises(QueryError, match=r"the oracle has numbers outside \[0, 1\]"):
        judge(np.arange(3), np.arange(3))


def test_judge_that_answers_too_little_is_refused() -> None:
    judge = checked(lambda rows, captions: np.zeros(1))
    with pytest.raises(QueryError, match=r"not one number per pair; got \(1,\) for \(3,\)"):
        judge(np.arange(3), np.arange(3))


@pytest.mark.parametrize("spec", ["oscar", "blip", "clip", "annotation@0.5", "matrix@0.5:x.npy", ""])
def test_unknown_oracle_is_refused_with_those_there_are(corpus: Corpus, spec: str) -> None:
    with pytest.raises(QueryError, match=r"no such oracle; got .*; use annotation, matrix, matrix:FILE, blip:MODEL"):
        open_oracle(spec, corpus)


def test_file_without_a_matrix_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"words": np.zeros((2, 2), np.float32)})
    with pytest.raises(QueryError, match=r"the file holds no matrix of probabilities; got .*x\.safetensors"):
        open_oracle(f"matrix:{tmp_path / 'x.safetensors'}", corpus)
    with pytest.raises(CorpusError, match=r"gone\.pt is missing"):
        open_oracle(f"matrix:{tmp_path / 'gone.pt'}", corpus)


def test_threshold_divides_cosines() -> None:
    images = np.array([[1, 0], [0.6, 0.8]], np.float32)
    judge = threshold_judge(images, np.array([[1, 0], [0, 1]], np.float32), 0.7)
    assert judge(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])).tolist() == [1, 0, 0, 1]


def test_threshold_is_put_where_it_tells_captions_apart_best() -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(0.0, 0.4, 50), rng.uniform(0.0, 0.4, 50) + np.pi / 2])
    images = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    captions = np.array([[1, 0], [0, 1]], np.float32)
    shown = np.repeat([0, 1], 50)
    threshold = calibrated_threshold(images, captions, shown, lambda caption: [1 - caption])
    own = np.einsum("nd,nd->n", images, captions[shown])
    other = np.einsum("nd,nd->n", images, captions[1 - shown])
    assert other.max() <= threshold < own.min()


def test_clip_threshold_of_a_perfect_encoder_is_the_annotation(
    corpus: Corpus, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simat.encoders.load_towers", lambda spec: (TripletEncoder(), TripletEncoder()))
    rows, columns = all_pairs(corpus)
    expected = open_oracle("annotation", corpus).judge(rows, columns)
    calibrated, fixed = open_oracle("clip:triplets", corpus), open_oracle("clip@0.9:triplets", corpus)
    assert (calibrated.judge(rows, columns) == expected).all()
    assert (fixed.judge(rows, columns) == expected).all()
    assert (open_oracle("clip@0.6:triplets", corpus).judge(rows, columns) > expected).any()  # two words of three
    assert calibrated.name.startswith("clip:triplets > 0.6")
    with pytest.raises(QueryError, match=r"the threshold must be a number; got 'high'"):
        open_oracle("clip@high:triplets", corpus)


@pytest.fixture(scope="module")
def small_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP with random weights, its tokenizer's words those of the corpus."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForImageTextRetrieval,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", ".", "cat", "dog", "cow", "biting", "licking", "bus"]
    (folder / "vocab.txt").write_text("\n".join(words))
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **sizes,
        "intermediate_size": 16,
        "vocab_size": 32,
        "encoder_hidden_size": 16,
        "max_position_embeddings": 32,
    }
    vision = {**sizes, "intermediate_size": 16, "image_size": 32, "patch_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BlipConfig(text_config=text, vision_config=vision, projection_dim=8, image_text_hidden_size=8)
        model = BlipForImageTextRetrieval(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data *= 20  # as it is drawn it answers the same to everything
        model.save_pretrained(folder)
    processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(processor, BertTokenizerFast(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def test_blip_gives_the_probabilities_of_its_matching_head(corpus: Corpus, small_blip: Path) -> None:
    import torch
    from transformers import BlipForImageTextRetrieval, BlipProcessor

    oracle = open_oracle(f"blip:{small_blip}", corpus)
    rows, columns = np.array([0, 7, 30, 0, 7]), np.array([0, 3, 1, 5, 3])
    found = oracle.judge(rows, columns)
    processor = BlipProcessor.from_pretrained(small_blip)
    model = BlipForImageTextRetrieval.from_pretrained(small_blip).eval()
    files, captions = image_files(corpus), corpus.table("triplets")["caption"].to_pylist()
    for row, column, probability in zip(rows, columns, found, strict=True):
        image = decode(read_bytes(corpus.images / files[row]))
        inputs = processor(images=image, text=captions[column], return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs, use_itm_head=True)[0][0].double()
        expected = float(torch.exp(logits[1]) / torch.exp(logits).sum())
        assert probability == pytest.approx(expected, abs=1e-5)
    assert found[1] == found[4]
    assert np.ptp(found) > 1e-3
    assert not oracle.cheap


def test_blip_is_asked_about_every_pair_once(corpus: Corpus, small_blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    original = Blip.probabilities

    def counted(self: Blip, images: Any, captions: Any) -> Any:
        asked.extend((str(image), caption) for image, caption in zip(images, captions, strict=True))
        return original(self, images, captions)

    monkeypatch.setattr(Blip, "probabilities", counted)
    judge = open_oracle(f"blip:{small_blip}", corpus).judge
    first = judge(np.array([1, 2, 1]), np.array([4, 4, 4]))
    second = judge(np.array([2, 3]), np.array([4, 4]))
    assert len(asked) == len(set(asked)) == 3
    assert first[0] == first[2]
    assert second[0] == first[1]


def test_folder_without_blip_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(EncoderError, match=r"cannot load BLIP; got .*; give the folder of a BlipForImageTextRetrieval"):
        open_oracle(f"blip:{tmp_path}", corpus)
