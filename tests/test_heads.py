"""Adapter heads: what they compute, what they refuse, and the folder they live in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import cosines, unit_noise
from hypothesis import given
from hypothesis import strategies as st

from simat.errors import QueryError, SpaceMismatchError, StorageError
from simat.files import sha256_file, sha256_text
from simat.heads import UNKNOWN, Head, Heads, Layer, check_place, load_heads, save_heads
from simat.types import EmbeddingSpace

IMAGES, TEXTS = EmbeddingSpace("eyes", "a" * 64, 6), EmbeddingSpace("ears", "b" * 64, 4)


def head(seed: int, *dims: int) -> Head:
    rng = np.random.default_rng(seed)
    draw = [
        (rng.normal(size=(b, a)).astype(np.float32), rng.normal(size=b).astype(np.float32)) for a, b in pairwise(dims)
    ]
    return Head(tuple(Layer(weight, bias) for weight, bias in draw))


def heads(seed: int = 0, tau: float = 0.1) -> Heads:
    return Heads(head(seed, 6, 5), head(seed + 1, 4, 5), "linear", tau, IMAGES, TEXTS, {"curve": [1.5, 1.25]})


def deep(seed: int = 0) -> Heads:
    return Heads(head(seed, 6, 7, 3, 5), head(seed + 1, 4, 7, 3, 5), "mlp", 0.1, IMAGES, TEXTS)


@given(st.integers(0, 1000))
def test_linear_head_is_the_affine_map_of_its_layer(seed: int) -> None:
    made, rows = heads(seed), unit_noise(seed, 9, 6)
    layer = made.image.layers[0]
    expected = np.array([layer.weight.astype(np.float64) @ row + layer.bias for row in rows])
    np.testing.assert_allclose(cosines(made.project_images(rows), expected), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made.project_images(rows), axis=1), 1, atol=1e-6)


def test_mlp_has_a_relu_between_layers_and_none_after_the_last() -> None:
    first = Layer(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    last = Layer(np.array([[1, 1], [0, 1]], np.float32), np.array([-5, 0], np.float32))
    rows = np.array([[-3, 2], [4, -1]], np.float32)
    assert Head((first, last))(rows).tolist() == [[-3, 2], [-1, 0]]


@pytest.mark.parametrize("made", [heads(), deep()], ids=["linear", "mlp"])
def test_projection_of_a_batch_is_that_of_its_rows(made: Heads) -> None:
    rows = unit_noise(1, 12, 4)
    singles = np.concatenate([made.project_texts(row[None]) for row in rows])
    np.testing.assert_allclose(made.project_texts(rows), singles, atol=1e-6)


def test_projection_uses_the_length_of_its_rows() -> None:
    rows = unit_noise(2, 5, 6)
    assert (cosines(heads().project_images(rows), heads().project_images(rows * 10)) < 0.999).all()


def test_projection_of_no_rows_is_no_rows() -> None:
    assert heads().project_images(np.empty((0, 6), np.float32)).shape == (0, 5)


def test_rows_that_lose_their_direction_are_refused() -> None:
    zero = Heads(
        Head((Layer(np.zeros((5, 6), np.float32), np.zeros(5, np.float32)),)),
        head(1, 4, 5), "linear", 0.1, IMAGES, TEXTS,
    )  # fmt: skip
    with pytest.raises(QueryError, match="the head's image vector 0 has no direction"):
        zero.project_images(unit_noise(0, 1, 6))
    with pytest.raises(QueryError, match="the head's text vector 1 has no direction; got length nan"):
        heads().project_texts(np.array([[1, 0, 0, 0], [np.nan, 0, 0, 0]], np.float32))


def test_rows_of_another_dimension_are_refused() -> None:
    with pytest.raises(SpaceMismatchError, match="takes 6-d vectors; got 4-d"):
        heads().project_images(unit_noise(0, 2, 4))


@pytest.mark.parametrize("made", [heads(), deep()], ids=["linear", "mlp"])
def test_saved_heads_are_loaded_with_the_same_numbers(made: Heads, tmp_path: Path) -> None:
    save_heads(tmp_path / "new" / "heads", made)
    again = load_heads(tmp_path / "new" / "heads")
    assert (again.kind, again.tau, again.details, again.dim) == (made.kind, made.tau, made.details, 5)
    assert (again.image_space, again.text_space, again.fingerprint) == (IMAGES, TEXTS, made.fingerprint)
    rows = unit_noise(3, 20, 6)
    assert (again.project_images(rows) == made.project_images(rows)).all()


def test_file_names_its_tensors_as_documented(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    save_heads(tmp_path, deep())
    stored = load_file(tmp_path / "heads.safetensors")
    assert sorted(stored) == sorted(f"{s}.{i}.{p}" for s in ("image", "text") for i in range(3) for p in PARTS)
    assert (stored["text.0.weight"].shape, stored["text.2.bias"].shape) == ((7, 4), (5,))
    document = json.loads((tmp_path / "heads.json").read_bytes())
    assert (document["format"], document["version"], document["dim"]) == ("simat/heads", 1, 5)
    assert document["tensors"]["sha256"] == sha256_file(tmp_path / "heads.safetensors")


PARTS = ("weight", "bias")


def test_fingerprint_follows_the_tensors_alone() -> None:
    made = heads()
    assert replace(made, tau=0.2, details={}).fingerprint == made.fingerprint == heads().fingerprint
    assert heads(1).fingerprint != made.fingerprint
    swapped = Heads(made.text, made.image, "linear", 0.1, TEXTS, IMAGES)
    assert swapped.fingerprint != made.fingerprint


def test_heads_of_another_space_are_refused_with_both_names() -> None:
    heads().check(IMAGES, TEXTS)
    heads().check(replace(IMAGES, encoder="the same eyes by another path"), TEXTS)
    other = EmbeddingSpace("nose", "c" * 64, 4)
    with pytest.raises(SpaceMismatchError, match=r"follow the text space ears \(4-d, b+\); got an encoder of nose"):
        heads().check(IMAGES, other)
    with pytest.raises(SpaceMismatchError, match=r"follow the image space eyes.*use them with eyes, or train"):
        heads().check(replace(IMAGES, fingerprint="d" * 64), TEXTS)
    with pytest.raises(SpaceMismatchError, match="image space"):
        heads().check(replace(IMAGES, heads="e" * 64), TEXTS)


def test_unknown_fingerprint_goes_by_the_encoders_name() -> None:
    made = replace(heads(), image_space=replace(IMAGES, fingerprint=UNKNOWN))
    made.check(replace(IMAGES, fingerprint="f" * 64), TEXTS)
    for other in (replace(IMAGES, encoder="nose"), replace(IMAGES, dim=7)):
        with pytest.raises(SpaceMismatchError, match=r"eyes \(6-d, unknown\)"):
            made.check(other, TEXTS)


def test_space_after_heads_depends_on_encoders_and_heads() -> None:
    after = heads().space("both", IMAGES, TEXTS)
    joined = sha256_text(f"{'a' * 64}\n{'b' * 64}")
    assert after == EmbeddingSpace("both", joined, 5, heads().fingerprint)
    one = Heads(head(0, 6, 5), head(1, 6, 5), "linear", 0.1, IMAGES, IMAGES)
    assert one.space("eyes", IMAGES, IMAGES).fingerprint == IMAGES.fingerprint
    with pytest.raises(SpaceMismatchError, match="text space"):
        heads().space("both", IMAGES, IMAGES)


def test_saving_never_replaces_what_lies_there(tmp_path: Path) -> None:
    save_heads(tmp_path / "a", heads())
    before = (tmp_path / "a" / "heads.json").read_bytes()
    save_heads(tmp_path / "a", heads())  # the same again changes nothing
    with pytest.raises(StorageError, match=r"there are heads here already; got .*a; give a new folder"):
        save_heads(tmp_path / "a", heads(1))
    assert (tmp_path / "a" / "heads.json").read_bytes() == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"something else here already; got .*b with thesis\.txt"):
        save_heads(tmp_path / "b", heads())
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.txt"]
    save_heads(tmp_path / "b", heads(), beside=["thesis.txt"])
    with pytest.raises(StorageError, match="something else"):
        check_place(tmp_path / "b" / "thesis.txt")


def test_half_written_heads_are_no_heads_and_are_written_over(tmp_path: Path) -> None:
    save_heads(tmp_path, heads(1))
    (tmp_path / "heads.json").unlink()
    (tmp_path / ".heads.json.0.tmp").write_text("{")
    with pytest.raises(StorageError, match="no heads here"):
        load_heads(tmp_path)
    save_heads(tmp_path, heads(2))
    assert load_heads(tmp_path).fingerprint == heads(2).fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.json", "heads.safetensors"]


def cut(folder: Path) -> None:
    data = (folder / "heads.safetensors").read_bytes()
    (folder / "heads.safetensors").write_bytes(data[:-7])


def edited(**values: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "heads.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))

    return edit


def other_tensors(folder: Path) -> None:
    save_heads(folder / "other", deep())
    (folder / "other" / "heads.safetensors").replace(folder / "heads.safetensors")
    edited(tensors={"sha256": sha256_file(folder / "heads.safetensors")})(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"heads\.safetensors was altered; got another SHA-256"),
        (lambda folder: (folder / "heads.safetensors").unlink(), "was altered; got no such file"),
        (lambda folder: (folder / "heads.json").write_text("{"), "the heads are damaged"),
        (edited(version=2), "of a newer version; got .*upgrade simat"),
        (edited(format="simat/index"), "not a folder of heads"),
        (edited(tau=-1), "τ must be a positive number; got -1"),
        (edited(tau=float("nan")), "τ must be a positive number; got nan"),
        (edited(kind="mlp"), "heads of kind 'mlp' have other layers; got 1 and 1 layers"),
        (edited(image_space={"encoder": "eyes", "fingerprint": "a", "dim": 7}), "do not fit each other and their sp"),
        (edited(image_space=None), "the heads are damaged"),
        (edited(fingerprint="0" * 64), "the heads were altered; got another fingerprint"),
        (other_tensors, "of kind 'linear' have other layers"),
    ],
)
def test_damaged_heads_are_refused(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save_heads(tmp_path, heads())
    damage(tmp_path)
    with pytest.raises(StorageError, match=message):
        load_heads(tmp_path)


def test_head_refuses_layers_that_cannot_be_chained() -> None:
    with pytest.raises(StorageError, match=r"do not fit each other; got weights of shapes \[\(3, 6\), \(5, 4\)\]"):
        Head((*head(0, 6, 3).layers, *head(0, 4, 5).layers))
    with pytest.raises(StorageError, match="layers of a head do not fit"):
        Head(())
    layer = Layer(np.full((2, 2), np.inf, np.float32), np.zeros(2, np.float32))
    with pytest.raises(StorageError, match="not finite"):
        Head((layer,))
