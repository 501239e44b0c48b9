"""The offline encoder against torch eager, and against a reference put together another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import blotches, cosines
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simat.encoders import load_encoder
from simat.encoders import offline as module
from simat.encoders.offline import (
    OfflineEncoder,
    classifier_weights,
    conse,
    imagenet_lemmas,
    load,
    sentence_model,
)
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.types import PixelEncoder

TEXTS = ["a dog", "cat", "", "a place to pray", "Ein Haus am See", "名前", "the man . wears ; a hat !", "dog " * 400]


@pytest.fixture(scope="module")
def offline() -> OfflineEncoder:
    return load("", RuntimeOptions())


@pytest.fixture(scope="module")
def eager() -> OfflineEncoder:
    return load("", RuntimeOptions(device="torch"))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    from skimage import data

    arrays = [data.astronaut(), data.cat(), data.coffee(), data.rocket()]
    return [*(Image.fromarray(array) for array in arrays), blotches(1, (90, 400)), Image.new("RGB", (8, 8))]


@pytest.fixture(scope="module")
def reference_texts() -> object:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(sentence_model()), device="cpu")


def reference_images(pictures: list[Image.Image], sentences: object) -> np.ndarray:
    """ConSE as Norouzi et al. write it, on timm's model and preprocessing and sentence-transformers' labels."""
    import timm
    import torch
    from torchvision import transforms

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    saved = torch.load(classifier_weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), saved.values(), strict=True)))
    prepare = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.498,) * 3, (0.502,) * 3),
        ]
    )
    info = timm.data.ImageNetInfo()
    vectors = []
    for picture in pictures:
        with torch.inference_mode():
            probabilities = model(prepare(picture)[None])[0].double().softmax(0)
        best = probabilities.argsort(descending=True)[:10].tolist()
        lemmas = [[lemma.strip() for lemma in info.index_to_description(label).split(",")] for label in best]
        rows = iter(sentences.encode([lemma for some in lemmas for lemma in some], normalize_embeddings=True))
        total = np.zeros(384)
        for label, some in zip(best, lemmas, strict=True):
            mean = np.mean([next(rows) for _ in some], axis=0)
            total += float(probabilities[label]) * mean / np.linalg.norm(mean)
        vectors.append(total / np.linalg.norm(total))
    return np.stack(vectors)


# golden values


def test_images_are_those_of_torch_eager(
    offline: OfflineEncoder, eager: OfflineEncoder, pictures: list[Image.Image]
) -> None:
    assert cosines(offline.encode_images(pictures), eager.encode_images(pictures)).min() >= 0.9999


def test_texts_are_those_of_torch_eager(offline: OfflineEncoder, eager: OfflineEncoder) -> None:
    assert cosines(offline.encode_texts(TEXTS), eager.encode_texts(TEXTS)).min() >= 0.9999


def test_images_are_those_of_the_reference(
    offline: OfflineEncoder, pictures: list[Image.Image], reference_texts: object
) -> None:
    assert cosines(offline.encode_images(pictures), reference_images(pictures, reference_texts)).min() >= 0.9999


def test_texts_are_those_of_sentence_transformers(offline: OfflineEncoder, reference_texts: object) -> None:
    expected = reference_texts.encode(TEXTS, normalize_embeddings=True)
    assert cosines(offline.encode_texts(TEXTS), expected).min() >= 0.9999


def test_bf16_stays_near_f32(offline: OfflineEncoder, pictures: list[Image.Image]) -> None:
    rough = load("", RuntimeOptions(precision="bf16"))
    assert cosines(rough.encode_images(pictures[:4]), offline.encode_images(pictures[:4])).min() >= 0.98
    assert cosines(rough.encode_texts(TEXTS), offline.encode_texts(TEXTS)).min() >= 0.98


# laws


def test_images_of_a_batch_are_bit_for_bit_those_of_singles(
    offline: OfflineEncoder, pictures: list[Image.Image]
) -> None:
    singles = np.concatenate([offline.encode_images([picture]) for picture in pictures])
    np.testing.assert_array_equal(offline.encode_images(pictures), singles)
    np.testing.assert_array_equal(offline.encode_images(pictures[::-1]), singles[::-1])


def test_texts_of_a_batch_are_those_of_singles(offline: OfflineEncoder) -> None:
    singles = np.concatenate([offline.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(offline.encode_texts(TEXTS), singles, atol=1e-5)


def test_pixels_are_another_way_to_say_images(offline: OfflineEncoder, pictures: list[Image.Image]) -> None:
    pixels = np.stack([offline.transform.pixels(picture) for picture in pictures])
    np.testing.assert_array_equal(offline.encode_pixels(pixels), offline.encode_images(pictures))


@settings(max_examples=15)
@given(words=st.lists(st.text(max_size=40), min_size=1, max_size=5), side=st.integers(1, 300))
def test_rows_are_unit_vectors(offline: OfflineEncoder, words: list[str], side: int) -> None:
    rows = np.concatenate([offline.encode_texts(words), offline.encode_images([blotches(side, (side, 301 - side))])])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_nothing_in_is_nothing_out(offline: OfflineEncoder) -> None:
    assert offline.encode_images([]).shape == offline.encode_texts([]).shape == (0, 384)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), top=st.integers(1, 12))
def test_conse_is_the_slow_loop(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(12), 3).astype(np.float32)
    labels = rng.normal(size=(12, 5)).astype(np.float32)
    for row, found in zip(probabilities, conse(probabilities, labels, top), strict=True):
        total = np.zeros(5)
        for label in sorted(range(12), key=lambda c: -row[c])[:top]:
            total += float(row[label]) * labels[label]
        np.testing.assert_allclose(found, total / np.linalg.norm(total), atol=1e-5)


# meaning


def test_words_lie_near_the_pictures_that_show_them(offline: OfflineEncoder, pictures: list[Image.Image]) -> None:
    scores = offline.encode_texts(["a cat", "a cup of coffee", "a rocket"]) @ offline.encode_images(pictures[:4]).T
    assert scores.argmax(1).tolist() == [1, 2, 3]


def test_lemmas_are_those_of_the_thousand_classes_in_order() -> None:
    lemmas = imagenet_lemmas()
    assert len(lemmas) == 1000
    assert lemmas[0] == ["tench", "Tinca tinca"]
    assert lemmas[281] == ["tabby", "tabby cat"]
    assert lemmas[999][0] == "toilet tissue"


# identity


def test_space_names_the_encoder_and_its_weights(offline: OfflineEncoder, eager: OfflineEncoder) -> None:
    assert (offline.space.encoder, offline.space.dim, offline.space.heads) == ("offline", 384, None)
    assert len(bytes.fromhex(offline.space.fingerprint)) == 32
    assert eager.space == offline.space == load_encoder().space
    assert isinstance(offline, PixelEncoder)


@pytest.mark.parametrize("change", ["weights", "transform", "recipe", "sentences"])
def test_fingerprint_changes_with_everything_that_changes_vectors(
    offline: OfflineEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from dataclasses import replace
    from shutil import copytree

    if change == "weights":
        other = tmp_path / "weights.pth"
        other.write_bytes(classifier_weights().read_bytes()[:-1] + b"x")
        monkeypatch.setattr(module, "classifier_weights", lambda: other)
    elif change == "transform":
        monkeypatch.setattr(module, "TRANSFORM", replace(module.TRANSFORM, edge=255))
    elif change == "recipe":
        monkeypatch.setattr(module, "RECIPE", "conse-11")
    else:
        folder = copytree(sentence_model(), tmp_path / "sentences", ignore=lambda *_: ["onnx", "openvino"])
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
        monkeypatch.setattr(module, "sentence_model", lambda: folder)
    assert load("", RuntimeOptions()).space.fingerprint != offline.space.fingerprint


def test_offline_takes_no_argument() -> None:
    with pytest.raises(EncoderError, match="the offline encoder takes no argument; got 'tiny'; write 'offline'"):
        load_encoder("offline:tiny")


def test_sentence_model_without_its_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sentence_model", lambda: tmp_path)
    with pytest.raises(EncoderError, match=r"lacks files; got config\.json, model\.safetensors, tokenizer\.json"):
        load("", RuntimeOptions())


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"layer": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(EncoderError, match=r"not the weights of EfficientNet-Lite0; got other\.pth"):
        module.build_classifier(tmp_path / "other.pth")
