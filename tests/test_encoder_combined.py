"""Two towers as one encoder: what a spec names, which space the vectors live in, and what the heads do to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import ColourEncoder, PixelColourEncoder, blotches, unit_noise
from hypothesis import given
from hypothesis import strategies as st

from simat import plugins
from simat.encoders import combined as module
from simat.encoders import load_encoder, load_tower, load_towers
from simat.encoders.combined import Parts
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError, SpaceMismatchError, StorageError
from simat.files import sha256_text
from simat.heads import Head, Heads, Layer, save_heads
from simat.types import EmbeddingSpace, Encoder, ImageEncoder, PixelEncoder, PixelImageEncoder, TextEncoder

PICTURES = [blotches(seed) for seed in range(5)]
TEXTS = ["red", "a dog", "blue", "", "red"]
DIM = ColourEncoder().space.dim


class WordTower:
    """Texts alone, in a space of any dimension."""

    def __init__(self, dim: int) -> None:
        self.space = EmbeddingSpace(f"words:{dim}", f"w{dim}", dim)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        rows = [unit_noise(len(text), 1, self.space.dim) for text in texts]
        return np.concatenate([np.empty((0, self.space.dim), np.float32), *rows])


class PictureTower:
    """Images alone, through pixels or not."""

    def __init__(self) -> None:
        self.space = EmbeddingSpace("pictures", "f00d", DIM)
        self.encode_images = ColourEncoder().encode_images


class PixelPictureTower(PictureTower):
    """Images alone, prepared elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = PixelColourEncoder.transform
        self.encode_pixels = PixelColourEncoder().encode_pixels
        self.encode_images = PixelColourEncoder().encode_images


LOADED: list[str] = []
TOWERS = {
    "colours": ColourEncoder,
    "pixels": PixelColourEncoder,
    "pictures": PictureTower,
    "pixelpictures": PixelPictureTower,
    "words": lambda argument="": WordTower(int(argument or DIM)),
    "nothing": object,
}


def load_stranger(argument: str, options: RuntimeOptions) -> object:
    """The entry point of every tower above: ``strangers:NAME`` or ``strangers:NAME:ARGUMENT``."""
    LOADED.append(argument)
    name, _, rest = argument.partition(":")
    return TOWERS[name](rest) if rest else TOWERS[name]()


@pytest.fixture(autouse=True)
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "strangers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[simat.encoders]\ns = {__name__}:load_stranger\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.registered.cache_clear()
    LOADED.clear()
    yield
    plugins.registered.cache_clear()


def make_heads(image: EmbeddingSpace, text: EmbeddingSpace, dim: int = 6) -> Heads:
    rng = np.random.default_rng(0)
    layers = (
        Layer(rng.normal(size=(dim, space.dim)).astype(np.float32), rng.normal(size=dim).astype(np.float32))
        for space in (image, text)
    )
    first, second = (Head((layer,)) for layer in layers)
    return Heads(first, second, "linear", 0.1, image, text)


# what a spec says

SPEC = st.from_regex(r"[a-z]{1,6}(:[a-z0-9:,/=. -]{1,12}[a-z0-9])?", fullmatch=True).filter(
    lambda spec: not spec.startswith("combined") and not any(f",{key}=" in spec for key in ("image", "text", "heads"))
)


@given(SPEC, SPEC, st.none() | SPEC, st.permutations([0, 1, 2]))
def test_parts_are_read_in_any_order(image: str, text: str, heads: str | None, order: list[int]) -> None:
    items = [f"image={image}", f"text={text}", f"heads={heads}"]
    argument = ",".join(items[i] for i in order if heads is not None or i < 2)
    assert Parts.parse(argument) == Parts(image, text, Path(heads) if heads is not None else None)


def test_specs_may_hold_colons_slashes_and_commas() -> None:
    argument = "image=timm:resnet50//data/a,b=c/x.pth,text=fasttext:./my, own.bin,heads=~/heads, of/τ=0.1"
    parts = Parts.parse(argument)
    assert (parts.image, parts.text) == ("timm:resnet50//data/a,b=c/x.pth", "fasttext:./my, own.bin")
    assert parts.heads == Path.home() / "heads, of/τ=0.1"


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "offline",
        "image=offline",
        "text=offline",
        "image=,text=offline",
        "image=offline,text=offline,heads=",
        "image=offline,image=offline,text=offline",
        "picture=offline,image=offline,text=offline",
        "image=offline;text=offline",
    ],
)
def test_specs_that_name_no_pair_are_refused(argument: str) -> None:
    with pytest.raises(EncoderError, match=r"names no combined encoder; got .*; write combined:image=SPEC,text=SPEC"):
        load_encoder(f"combined:{argument}")


def test_a_combined_encoder_holds_no_other() -> None:
    with pytest.raises(EncoderError, match="holds no other one"):
        load_encoder("combined:image=combined:image=offline,text=minilm")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("image=s:words,text=s:words", "this encoder reads no images; got image=s:words"),
        ("image=s:colours,text=s:pictures", "this encoder reads no texts; got text=s:pictures"),
        ("image=s:nothing,text=s:words", "the plugin 's' returned no Encoder; got object"),
        ("image=unheard,text=s:words", "no such encoder; got 'unheard'"),
        ("image=s:pictures,text=s:words:7", f"dimensions meet only through heads; got {DIM} for pictures and 7 for"),
    ],
)
def test_towers_that_do_not_fit_are_refused(argument: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"combined:{argument}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "s:words",
            "this encoder reads texts only; got 's:words'; combine it: combined:image=SPEC,text=s:words,heads=",
        ),
        ("s:pictures", "this encoder reads images only; .*: combined:image=s:pictures,text=SPEC,heads=FOLDER"),
    ],
)
def test_a_single_tower_is_no_encoder(spec: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(spec)


def test_load_tower_gives_whatever_there_is() -> None:
    words, pictures, both = (load_tower(spec) for spec in ("s:words", "s:pixelpictures", "s:colours"))
    assert isinstance(words, TextEncoder) and not isinstance(words, ImageEncoder)
    assert isinstance(pictures, PixelImageEncoder) and not isinstance(pictures, TextEncoder | PixelEncoder)
    assert isinstance(both, Encoder)


# spaces


def test_one_encoder_twice_is_that_encoder() -> None:
    encoder, alone = load_encoder("combined:image=s:colours,text=s:colours"), load_encoder("s:colours")
    assert LOADED == ["colours", "colours"]  # once for the pair, once alone
    alone.space.require(encoder.space)
    np.testing.assert_array_equal(encoder.encode_images(PICTURES), alone.encode_images(PICTURES))
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), alone.encode_texts(TEXTS))


def test_space_names_spec_both_towers_and_heads(tmp_path: Path) -> None:
    heads = make_heads(PictureTower().space, WordTower(7).space)
    save_heads(tmp_path / "heads", heads)
    spec = f"combined:image=s:pictures,text=s:words:7,heads={tmp_path}/heads"
    assert load_encoder(spec).space == EmbeddingSpace(spec, sha256_text("f00d\nw7"), 6, heads.fingerprint)
    bare = f"combined:image=s:pictures,text=s:words:{DIM}"
    assert load_encoder(bare).space == EmbeddingSpace(bare, sha256_text(f"f00d\nw{DIM}"), DIM)


def test_towers_swapped_are_another_space() -> None:
    one = load_encoder("combined:image=s:colours,text=s:words").space
    other = module.joint_space("x", WordTower(DIM).space, ColourEncoder().space, None)
    with pytest.raises(SpaceMismatchError):
        one.require(other)


# vectors


@pytest.fixture
def spec(tmp_path: Path) -> str:
    save_heads(tmp_path / "heads", make_heads(PictureTower().space, WordTower(7).space))
    return f"combined:image=s:pixelpictures,text=s:words:7,heads={tmp_path}/heads"


def test_vectors_are_the_towers_after_the_heads(spec: str) -> None:
    heads, encoder = make_heads(PictureTower().space, WordTower(7).space), load_encoder(spec)
    for rows, head, found in (
        (PixelPictureTower().encode_images(PICTURES), heads.image, encoder.encode_images(PICTURES)),
        (WordTower(7).encode_texts(TEXTS), heads.text, encoder.encode_texts(TEXTS)),
    ):
        expected = rows.astype(np.float64) @ head.layers[0].weight.T + head.layers[0].bias
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_a_batch_is_its_singles(spec: str) -> None:
    encoder = load_encoder(spec)
    images = np.concatenate([encoder.encode_images([picture]) for picture in PICTURES])
    texts = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_images(PICTURES), images, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-6)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, 6)


def test_pixels_go_through_where_the_image_tower_takes_them(spec: str) -> None:
    encoder, whole = load_encoder(spec), load_encoder("combined:image=s:pictures,text=s:words")
    assert isinstance(encoder, PixelEncoder) and not isinstance(whole, PixelEncoder)
    assert encoder.transform == PixelColourEncoder.transform
    pixels = np.stack([encoder.transform.pixels(picture) for picture in PICTURES])
    np.testing.assert_array_equal(encoder.encode_pixels(pixels), encoder.encode_images(PICTURES))


def test_heads_of_other_towers_are_refused(tmp_path: Path) -> None:
    save_heads(tmp_path / "heads", make_heads(PictureTower().space, WordTower(7).space))
    with pytest.raises(SpaceMismatchError, match=r"words:7.*words:8|words:8.*words:7"):
        load_encoder(f"combined:image=s:pictures,text=s:words:8,heads={tmp_path}/heads")


def test_heads_that_are_not_there_are_told_before_any_tower_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no heads here"):
        load_encoder(f"combined:image=s:pictures,text=s:words,heads={tmp_path}/nowhere")
    assert not LOADED


# the parts that heads are trained on


def test_load_towers_gives_the_parts_of_a_pair_without_heads(spec: str) -> None:
    image, text = load_towers("combined:image=s:pictures,text=s:words:7")
    assert (image.space.dim, text.space.dim) == (DIM, 7)
    for whole in (spec, "s:colours"):
        image, text = load_towers(whole)
        assert image is text
    with pytest.raises(EncoderError, match="reads texts only"):
        load_towers("s:words")
