"""LASER on a small seeded encoder in the released files' formats: against the library, and against a bare LSTM."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import cosines
from laserembeddings import Laser
from laserembeddings.encoder import Encoder

from simat.encoders import load_encoder, load_tower
from simat.encoders.laser import LaserTower
from simat.errors import EncoderError
from simat.types import ImageEncoder, TextEncoder

NAMES = ("93langs.fcodes", "93langs.fvocab", "bilstm.93langs.2018-12-26.pt")
MERGES = [
    "d o 9",
    "do g</w> 8",
    "c a 7",
    "ca t</w> 6",
    "a n 5",
    "o n</w> 4",
    "an d</w> 3",
]  # pair and count, as fastBPE
TOKENS = ["dog", "cat", "on", "and", "a", "m@@", "a@@", "t", "t@@", "h@@", "e", "i@@", "s", "o@@", "g", "d@@", "é", "."]
PARAMS = {"embed_dim": 8, "hidden_size": 10, "num_layers": 2, "bidirectional": True, "padding_idx": 1}
TEXTS = [
    "a dog and a cat",
    "",
    "Dog.",
    "the cat is on the mat . " * 20,
    "Ein Häuschen 名前",
    "two\nlines\tand  more",
    "dog",
]


def write_laser(folder: Path, seed: int = 0) -> Path:
    """The three files of LASER with other numbers in them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAMES[0]).write_text("\n".join(MERGES) + "\n", encoding="utf-8")
    (folder / NAMES[1]).write_text("".join(f"{token} 5\n" for token in TOKENS), encoding="utf-8")
    dictionary = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *TOKENS])}
    params = {"num_embeddings": len(dictionary), **PARAMS}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = Encoder(**params).state_dict()
    torch.save({"params": params, "model": state, "dictionary": dictionary}, folder / NAMES[2])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_laser(tmp_path_factory.mktemp("laser") / "model")


@pytest.fixture(scope="module")
def tower(folder: Path) -> LaserTower:
    return load_tower(f"laser:{folder}")


def test_vectors_are_those_of_the_library(tower: LaserTower, folder: Path) -> None:
    expected = Laser(*(str(folder / name) for name in NAMES)).embed_sentences(TEXTS, lang="en")
    found = tower.encode_texts(TEXTS)
    assert cosines(found, expected).min() > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a dog and a cat", ["a", "dog", "and", "a", "cat"]),
        ("Dog.", ["dog", "."]),
        ("The MAT", ["t@@", "h@@", "e", "m@@", "a@@", "t"]),
        ("zoo", ["<unk>", "o@@", "<unk>"]),  # "z@@" and a final "o" are in no vocabulary
        ("", []),
    ],
)
def test_vectors_are_the_maxima_of_a_bare_lstm(tower: LaserTower, folder: Path, text: str, tokens: list[str]) -> None:
    saved = torch.load(folder / NAMES[2], weights_only=True)
    settings = {key: value for key, value in PARAMS.items() if key not in {"embed_dim", "padding_idx"}}
    lstm = torch.nn.LSTM(PARAMS["embed_dim"], **settings)
    prefix = "lstm."
    lstm.load_state_dict({k.removeprefix(prefix): v for k, v in saved["model"].items() if k.startswith(prefix)})
    ids = [saved["dictionary"][token] for token in [*tokens, "</s>"]]
    with torch.inference_mode():
        states, _ = lstm(saved["model"]["embed_tokens.weight"][ids][:, None])
    assert cosines(tower.encode_texts([text]), states.amax(0).numpy()).min() > 1 - 1e-6


def test_a_batch_is_its_singles(tower: LaserTower) -> None:
    singles = np.concatenate([tower.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(tower.encode_texts(TEXTS), singles, atol=1e-6)
    np.testing.assert_allclose(tower.encode_texts(TEXTS[::-1]), singles[::-1], atol=1e-6)
    assert tower.encode_texts([]).shape == (0, 20)


def test_space_is_that_of_the_contents(tower: LaserTower, folder: Path, tmp_path: Path) -> None:
    assert (tower.space.encoder, tower.space.dim) == (f"laser:{folder}", 20)
    shutil.copytree(folder, tmp_path / "copy")
    assert load_tower(f"laser:{tmp_path}/copy").space.fingerprint == tower.space.fingerprint
    (tmp_path / "copy" / NAMES[0]).write_text("\n".join(MERGES[:-1]) + "\n")
    assert load_tower(f"laser:{tmp_path}/copy").space.fingerprint != tower.space.fingerprint
    assert load_tower(f"laser:{write_laser(tmp_path / 'other', 1)}").space.fingerprint != tower.space.fingerprint


def test_a_tower_of_sentences_reads_no_images(tower: LaserTower, folder: Path) -> None:
    assert isinstance(tower, TextEncoder) and not isinstance(tower, ImageEncoder)
    with pytest.raises(EncoderError, match=r"this encoder reads texts only; .*combined:image=SPEC,text=laser:"):
        load_encoder(f"laser:{folder}")


# folders that are none


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_all_three_files_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "x")
    (tmp_path / "x" / name).unlink()
    with pytest.raises(EncoderError, match=rf"not a LASER folder; got .*0 {Path(name).suffix}.*; write laser:/path"):
        load_tower(f"laser:{tmp_path}/x")


@pytest.mark.parametrize("argument", ["", "/nowhere"])
def test_no_folder_is_refused(argument: str) -> None:
    with pytest.raises(EncoderError, match="not a LASER folder"):
        load_tower(f"laser:{argument}")


def refused(folder: Path, copy: Path, content: bytes | dict[str, Any], name: str = NAMES[2]) -> str:
    """What loading says when one file has other contents."""
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    if isinstance(content, bytes):
        (copy / name).write_bytes(content)
    else:
        torch.save(content, copy / name)
    with pytest.raises(EncoderError) as error:
        load_tower(f"laser:{copy}")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_encoder_cut_short_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / NAMES[2]).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        assert "cannot read the checkpoint" in refused(folder, tmp_path / "x", whole[:length])


def test_other_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    saved = torch.load(folder / NAMES[2], weights_only=True)
    bare = {"model": saved["model"]}
    assert "this is no LASER encoder; got" in refused(folder, tmp_path / "x", bare)
    assert "without dictionary, params" in refused(folder, tmp_path / "x", bare)
    wide = {**saved, "params": {**saved["params"], "hidden_size": 11}}
    assert "cannot load LASER from" in refused(folder, tmp_path / "x", wide)
    assert "cannot load LASER from" in refused(folder, tmp_path / "x", {**saved, "dictionary": {}})


def test_codes_that_are_no_text_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "cannot load LASER from" in refused(folder, tmp_path / "x", b"\xff\xfe\x00", NAMES[0])


def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was here",))

    inside = {"params": {}, "model": {}, "dictionary": Hostile()}
    for content in (inside, pickle.dumps(inside)):
        assert "cannot read the checkpoint" in refused(folder, tmp_path / "x", content)
    assert not (tmp_path / "was here").exists()


def test_a_missing_library_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laserembeddings", None)
    with pytest.raises(EncoderError, match=r"laserembeddings is not installed; pip install 'simat\[text\]'"):
        load_tower(f"laser:{folder}")
