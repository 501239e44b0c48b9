"""open_clip models against open_clip's own preprocessing and towers, on small seeded weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from helpers import blotches, cosines
from safetensors.torch import save_file

from simat.encoders import load_encoder
from simat.encoders import open_clip as module
from simat.encoders.networks import CausalTexts
from simat.encoders.open_clip import OpenClipEncoder, locate, transform_of
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.types import PixelEncoder

TEXTS = ["a dog", "", "a photo of a cat that sits on a mat", "café 名前", "dog " * 200]
PICTURES = [blotches(seed, size) for seed, size in enumerate([(90, 60), (60, 90), (31, 33), (40, 40), (200, 50)])]
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shortest": ({}, {"resize_mode": "shortest", "interpolation": "bicubic"}),
    "squash": ({"quick_gelu": True}, {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3]}),
    "longest": ({}, {"resize_mode": "longest", "interpolation": "bicubic", "fill_color": 127, "std": [0.2, 0.3, 0.4]}),
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Conversions of these weights are of no use to anyone else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write_model(folder: Path, model: dict[str, Any], preprocess: dict[str, Any], seed: int = 0) -> Path:
    """A folder in open_clip's own layout, with seeded weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": TEXT, **model}
    preprocess = {"size": 32, "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], **preprocess}
    document = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = open_clip.CLIP(**config).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp(request.param) / "model", *MODELS[request.param])


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return load_encoder(f"open_clip:{folder}")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any, Any]:
    """open_clip's own model, preprocessing and tokenizer."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_pixels_are_those_of_open_clip(encoder: OpenClipEncoder, theirs: tuple[Any, Any, Any]) -> None:
    mean, std = (np.array(values, np.float32) for values in (encoder.transform.mean, encoder.transform.std))
    for picture in PICTURES:
        normalised = theirs[1](picture).numpy().transpose(1, 2, 0)
        pixels = np.rint((normalised * std + mean) * 255).astype(np.uint8)
        np.testing.assert_array_equal(encoder.transform.pixels(picture), pixels)


def test_images_are_those_of_open_clip(encoder: OpenClipEncoder, theirs: tuple[Any, Any, Any]) -> None:
    model, preprocess, _ = theirs
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES])).numpy()
    found = encoder.encode_images(PICTURES)
    assert cosines(found, expected).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_texts_are_those_of_open_clip(encoder: OpenClipEncoder, theirs: tuple[Any, Any, Any]) -> None:
    model, _, tokenizer = theirs
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(TEXTS)).numpy()
    found = encoder.encode_texts(TEXTS)
    assert cosines(found, expected).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("words", [0, 1, 5, 6, 7, 13, 14, 21, 22, 23, 40])
def test_texts_of_any_length_are_those_of_open_clip(
    encoder: OpenClipEncoder, theirs: tuple[Any, Any, Any], words: int
) -> None:
    model, _, tokenizer = theirs
    texts = [" ".join(["dog", "cat", "a"][n % 3] for n in range(words))]
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-5)


def test_padding_that_no_text_needs_is_not_computed(encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = list[int]()
    monkeypatch.setattr(
        encoder, "_texts", lambda tokens: lengths.append(tokens.shape[1]) or np.zeros((len(tokens), 48), np.float32)
    )
    for texts in (["a dog"], ["a dog", "a dog on the beach with a cat"], ["dog " * 200]):
        encoder.encode_texts(texts)
    assert lengths == [8, 16, 24]


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_towers_of_other_kinds_keep_their_padding(text: dict[str, Any]) -> None:
    assert CausalTexts.fits(open_clip.CLIP(48, VISION, TEXT))
    assert not CausalTexts.fits(open_clip.CustomTextCLIP(48, VISION, {**TEXT, **text}))


@pytest.mark.parametrize(
    ("name", "value"), [("text_pool_type", "last"), ("attn_mask", None), ("text_projection", None)]
)
def test_towers_that_need_their_padding_keep_it(name: str, value: object) -> None:
    model = open_clip.CLIP(48, VISION, TEXT)
    setattr(model, name, value)
    assert not CausalTexts.fits(model)


def test_towers_that_look_ahead_keep_their_padding() -> None:
    model = open_clip.CLIP(48, VISION, TEXT)
    model.attn_mask[3, 5] = 0
    assert not CausalTexts.fits(model)


def test_torch_eager_gives_the_same_vectors(folder: Path, encoder: OpenClipEncoder) -> None:
    eager = load_encoder(f"open_clip:{folder}", RuntimeOptions(device="torch"))
    assert eager.space == encoder.space
    assert cosines(eager.encode_images(PICTURES), encoder.encode_images(PICTURES)).min() >= 0.9999
    assert cosines(eager.encode_texts(TEXTS), encoder.encode_texts(TEXTS)).min() >= 0.9999


def test_a_batch_is_its_singles(encoder: OpenClipEncoder) -> None:
    images = np.concatenate([encoder.encode_images([picture]) for picture in PICTURES])
    texts = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_images(PICTURES), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, 48)


def test_space_names_the_folder_and_its_dimension(folder: Path, encoder: OpenClipEncoder) -> None:
    assert (encoder.space.encoder, encoder.space.dim) == (f"open_clip:{folder}", 48)
    assert isinstance(encoder, PixelEncoder)


def test_fingerprint_is_that_of_the_contents(tmp_path: Path) -> None:
    def fingerprint(name: str, preprocess: dict[str, Any], seed: int) -> str:
        folder = write_model(tmp_path / name, {}, preprocess, seed)
        return load_encoder(f"open_clip:{folder}").space.fingerprint

    one = fingerprint("one", {}, 0)
    assert fingerprint("copy", {}, 0) == one
    assert len({one, fingerprint("weights", {}, 1), fingerprint("config", {"resize_mode": "squash"}, 0)}) == 3


def test_a_checkpoint_file_of_a_stock_model_is_read(tmp_path: Path) -> None:
    name = "ViT-S-32-alt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    encoder = load_encoder(f"open_clip:{name}/{tmp_path}/weights.pt", RuntimeOptions(device="torch"))
    with torch.inference_mode():
        images = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES[:2]])).numpy()
        texts = model.encode_text(open_clip.get_tokenizer(name)(TEXTS[:2])).numpy()
    assert encoder.space.dim == 256
    assert cosines(encoder.encode_images(PICTURES[:2]), images).min() >= 0.9999
    assert cosines(encoder.encode_texts(TEXTS[:2]), texts).min() >= 0.9999


# refusals, all of them without a network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", reached)
    monkeypatch.setattr("socket.getaddrinfo", reached)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "names no open_clip model; got ''; write open_clip:MODEL/TAG"),
        ("ViT-B-32", "names no open_clip model; got 'ViT-B-32'"),
        ("ViT-B-32/", "names no open_clip model"),
        ("ViT-Z-99/openai", "open_clip has no such model; got 'ViT-Z-99'; see 'simat encoders --all'"),
        ("ViT-Z-99//weights.pt", "no such checkpoint"),
        ("ViT-B-32/nonsense", "ViT-B-32 has no such weights; got 'nonsense'; there are: .*laion2b_s34b_b79k"),
        ("ViT-B-32//nowhere/weights.pt", "no such checkpoint; got /nowhere/weights.pt"),
        ("ViT-B-32/./nowhere.pt", "no such checkpoint; got nowhere.pt"),
        ("/nowhere", "not an open_clip folder; got /nowhere; it needs open_clip_config.json"),
        ("ViT-B-32/openai", "openai was trained with another activation than ViT-B-32; use ViT-B-32-quickgelu/openai"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "ViT-B-32-quickgelu has no such weights; .*there are: openai"),
    ],
)
def test_specs_that_name_nothing_are_refused(argument: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"open_clip:{argument}")


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no route to host\nand much more")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(EncoderError, match="cannot download ViT-B-32/laion2b_e16; got no route to host; fetch it") as e:
        locate("ViT-B-32/laion2b_e16")
    assert "\n" not in str(e.value)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("these are no weights")
    with pytest.raises(EncoderError, match=r"cannot load ViT-S-32-alt from .*weights\.pt"):
        load_encoder(f"open_clip:ViT-S-32-alt/{tmp_path}/weights.pt")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(3, 4)}, tmp_path / "weights.pt")
    with pytest.raises(EncoderError, match=r"cannot load ViT-S-32-alt from .*weights\.pt"):
        load_encoder(f"open_clip:ViT-S-32-alt/{tmp_path}/weights.pt")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was here",))

    torch.save({"x": Hostile()}, tmp_path / "weights.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile()))
    for name in ("weights.pt", "plain.pt"):
        with pytest.raises(EncoderError, match="cannot load ViT-S-32-alt"):
            load_encoder(f"open_clip:ViT-S-32-alt/{tmp_path}/{name}")
    assert not (tmp_path / "was here").exists()


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, {}, {})
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"it needs open_clip_config.json and open_clip_model.safetensors"):
        load_encoder(f"open_clip:{tmp_path}")


def test_shortest_edge_to_a_frame_that_is_no_square_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"size": (32, 48), "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "shortest"}
    monkeypatch.setattr(open_clip, "get_model_preprocess_cfg", lambda _: config)
    with pytest.raises(EncoderError, match="a frame that is no square; got 32 × 48"):
        transform_of(None)
    config["resize_mode"] = "longest"
    assert (transform_of(None).height, transform_of(None).width) == (32, 48)


def test_facts_are_remembered_without_loading_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path, {}, {}, seed=7)
    first = load_encoder(f"open_clip:{folder}")
    monkeypatch.setattr(module.Checkpoint, "create", lambda _: pytest.fail("loaded"))
    assert load_encoder(f"open_clip:{folder}").space == first.space


def test_a_stock_model_is_found_without_importing_open_clip(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    code = (
        "import sys; from simat.encoders.open_clip import locate; "
        f"print(locate('ViT-B-32/{tmp_path}/weights.pt').model, 'open_clip' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["ViT-B-32", "False"]
