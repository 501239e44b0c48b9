"""Sentence encoders: a tiny model with a dense layer against the library's own vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import cosines
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from simat.encoders import load_encoder, load_tower
from simat.encoders import sentence_transformers as module
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.sentence_transformers import SentenceTower
from simat.errors import EncoderError
from simat.types import ImageEncoder, TextEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "on", "mat", "the", "##s", ".", "red"]
TEXTS = ["a dog", "", "the cats on a red mat .", "名前", "dog " * 60, "a dog"]
WIDTH, DIM = 16, 6


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of these models is of no use to anyone else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write_model(folder: Path, seed: int = 0) -> Path:
    """A folder of sentence-transformers with LaBSE's modules: first token, dense layer with tanh, unit length."""
    plain = folder.with_name(f"{folder.name}-bert")
    plain.mkdir(parents=True)
    (plain / "vocab.txt").write_text("\n".join(WORDS))
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(plain)
        dense = Dense(WIDTH, DIM, activation_function=torch.nn.Tanh())
    BertTokenizerFast(str(plain / "vocab.txt")).save_pretrained(plain)
    modules = [Transformer(str(plain), max_seq_length=24), Pooling(WIDTH, pooling_mode="cls"), dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sentences") / "model")


@pytest.fixture(scope="module")
def tower(folder: Path) -> SentenceTower:
    return load_tower(f"sentences:{folder}")


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    return SentenceTransformer(str(folder), device="cpu")


def test_vectors_are_those_of_the_library(tower: SentenceTower, library: Any) -> None:
    found = tower.encode_texts(TEXTS)
    assert cosines(found, library.encode(TEXTS)).min() > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_vectors_pass_the_dense_layer(tower: SentenceTower, library: Any) -> None:
    """The modules one by one: the first token's state, W·x + b, tanh, unit length."""
    tokens = library.tokenizer(["the cats on a mat ."], return_tensors="pt")
    with torch.inference_mode():
        state = library[0].auto_model(**tokens).last_hidden_state[:, 0]
        expected = torch.tanh(state @ library[2].linear.weight.T + library[2].linear.bias).numpy()
    assert (tower.space.dim, expected.shape) == (DIM, (1, DIM))
    assert cosines(tower.encode_texts(["the cats on a mat ."]), expected).min() > 1 - 1e-6


def test_a_batch_is_its_singles(tower: SentenceTower) -> None:
    singles = np.concatenate([tower.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(tower.encode_texts(TEXTS), singles, atol=1e-5)
    np.testing.assert_allclose(tower.encode_texts(TEXTS[::-1]), singles[::-1], atol=1e-5)
    assert tower.encode_texts([]).shape == (0, DIM)


def test_half_precision_is_close(folder: Path, tower: SentenceTower) -> None:
    rough = load_tower(f"sentences:{folder}", RuntimeOptions(precision="bf16")).encode_texts(TEXTS)
    assert rough.dtype == np.float32
    assert 0.99 < cosines(rough, tower.encode_texts(TEXTS)).min() < 1 - 1e-7


def test_space_is_that_of_the_contents(folder: Path, tower: SentenceTower, tmp_path: Path) -> None:
    assert (tower.space.encoder, tower.space.dim) == (f"sentences:{folder}", DIM)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("says nothing about the vectors")
    assert load_tower(f"sentences:{copy}").space.fingerprint == tower.space.fingerprint
    (copy / "2_Dense" / "model.safetensors").unlink()
    fingerprints = {tower.space.fingerprint}
    for weights in (b"other weights", b"and others"):
        (copy / "2_Dense" / "pytorch_model.bin").write_bytes(weights)
        fingerprints.add(module.fingerprint(copy))
    document = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps(document[:-1]))
    fingerprints.add(module.fingerprint(copy))
    fingerprints.add(module.fingerprint(write_model(tmp_path / "other", seed=1)))
    assert len(fingerprints) == 5


def test_the_dimension_is_remembered_without_loading_the_weights(
    folder: Path, tower: SentenceTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_open", lambda *_: pytest.fail("loaded"))
    assert load_tower(f"sentences:{folder}").space == tower.space


def test_a_name_is_fetched_by_the_library(folder: Path, tower: SentenceTower, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(module, "_open", lambda source, device: opened.append((source, device)))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, local_files_only: str(folder))
    named = load_tower("sentences:someone/model")
    assert opened == [("someone/model", "cpu")]
    assert (named.space.encoder, named.space.fingerprint) == ("sentences:someone/model", tower.space.fingerprint)


def test_a_tower_of_sentences_reads_no_images(folder: Path, tower: SentenceTower) -> None:
    assert isinstance(tower, TextEncoder) and not isinstance(tower, ImageEncoder)
    with pytest.raises(EncoderError, match=r"this encoder reads no images; got image=sentences:"):
        load_encoder(f"combined:image=sentences:{folder},text=minilm")


# what cannot be loaded


def test_a_failed_download_is_one_line() -> None:
    with pytest.raises(EncoderError, match="cannot load the sentence encoder no/such-model; got ") as error:
        load_tower("sentences:no/such-model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "names no sentence encoder; got ''; write sentences:/path/to/folder or sentences:NAME"),
        ("/nowhere", "not a sentence-transformers folder; got /nowhere; it needs modules.json"),
        ("./nowhere", "not a sentence-transformers folder"),
    ],
)
def test_specs_that_name_nothing_are_refused(argument: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_tower(f"sentences:{argument}")


@pytest.mark.parametrize("content", ["", "{", '{"path": ""}', "[1]", '[{"name": "0"}]'])
def test_modules_that_cannot_be_read_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(EncoderError, match=r"cannot read modules\.json in"):
        load_tower(f"sentences:{tmp_path}")


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors", "config.json"])
def test_a_file_cut_short_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "x")
    path = tmp_path / "x" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderError, match="cannot load the sentence encoder") as error:
        load_tower(f"sentences:{tmp_path}/x")
    assert "\n" not in str(error.value)


def test_modules_of_foreign_code_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "x")
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')\nclass Module: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    document = json.loads((folder / "modules.json").read_text())
    document[-1]["type"] = "hostile.Module"
    (tmp_path / "x" / "modules.json").write_text(json.dumps(document))
    with pytest.raises(EncoderError, match="cannot load the sentence encoder"):
        load_tower(f"sentences:{tmp_path}/x")
    assert not (tmp_path / "was here").exists()


def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was here",))

    for place in ("", "2_Dense"):
        copy = tmp_path / f"x{place}"
        shutil.copytree(folder, copy)
        (copy / place / "model.safetensors").unlink()
        torch.save({"linear.weight": Hostile()}, copy / place / "pytorch_model.bin")
        with pytest.raises(EncoderError, match="cannot load the sentence encoder"):
            load_tower(f"sentences:{copy}")
    assert not (tmp_path / "was here").exists()
