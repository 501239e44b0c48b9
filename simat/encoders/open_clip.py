"""Any dual encoder of open_clip: by pretrained tag, by checkpoint file, or by folder.

Specs: ``open_clip:ViT-B-32/laion2b_s34b_b79k`` (a tag, downloaded once by open_clip),
``open_clip:ViT-B-32//path/to/checkpoint`` (an absolute path; ``./checkpoint`` for a relative one), and
``open_clip:/path/to/folder`` with ``open_clip_config.json`` and weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL.Image import Image

from simat.encoders.runtime import Network, Runtime, RuntimeOptions, start
from simat.errors import EncoderError
from simat.files import cache_folder, sha256_file, sha256_text, write_text
from simat.images import ImageTransform
from simat.types import EmbeddingSpace

if TYPE_CHECKING:
    import torch

BATCH = {"f32": 4, "bf16": 8}  # the smallest that nearly reaches the speed of greater ones
STEP = 8  # tokens
FACTS = 2  # what the cache knows of a checkpoint; a greater number where it must know more
EXAMPLE_TEXTS = ["a photo of a dog", "two words"]
HELP = "write open_clip:MODEL/TAG, open_clip:MODEL//path/to/checkpoint or open_clip:/path/to/folder"


@dataclass(frozen=True)
class Checkpoint:
    """Which architecture, and the file that holds its weights.

    Attributes:
        model: what ``open_clip.create_model`` takes: a model name or ``local-dir:FOLDER``.
        weights: the checkpoint file.
        config: the folder's configuration, where it does not come with open_clip.
        tag: the pretrained tag, where there is one: it may change the preprocessing.
    """

    model: str
    weights: Path
    config: Path | None = None
    tag: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the architecture's name or configuration and the weights."""
        architecture = sha256_file(self.config) if self.config else f"{self.model} {self.tag or ''}".strip()
        return sha256_text(f"{architecture}\n{sha256_file(self.weights)}")

    def create(self) -> Any:
        """The model with its weights, in evaluation mode.

        Raises:
            EncoderError: the file holds no weights of this architecture.
        """
        import open_clip

        name = None if self.config else (self.tag or str(self.weights))
        try:
            return open_clip.create_model(self.model, pretrained=name, require_pretrained=True).eval()
        except Exception as error:  # bytes that are no weights make the unpickler raise anything
            reason = str(error).strip().splitlines()
            raise EncoderError(
                f"cannot load {self.model} from {self.weights}", got=reason[0] if reason else type(error).__name__
            ) from error


def load(argument: str, options: RuntimeOptions) -> OpenClipEncoder:
    """Entry point of ``open_clip``."""
    return OpenClipEncoder(f"open_clip:{argument}", locate(argument), options)


def locate(argument: str) -> Checkpoint:
    """Find the checkpoint that a spec names, downloading it where it is a tag.

    Raises:
        EncoderError: unknown model or tag, missing file, failed download, or the wrong activation for the weights.
    """
    if argument.startswith(("/", "./", "../", "~")):
        return _in_folder(Path(argument).expanduser())
    model, _, source = argument.partition("/")
    if not model or not source:
        raise EncoderError("this names no open_clip model", got=repr(argument), remedy=HELP)
    if source.startswith(("/", "./", "../", "~")):
        weights = Path(source).expanduser()
        if not weights.is_file():
            raise EncoderError("no such checkpoint", got=str(weights), remedy=HELP)
        return Checkpoint(_known(model), weights)
    return _tagged(_known(model), source)


def _in_folder(folder: Path) -> Checkpoint:
    config = folder / "open_clip_config.json"
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if not config.is_file() or weights is None:
        raise EncoderError(
            "not an open_clip folder", got=str(folder), remedy=f"it needs open_clip_config.json and {names[0]}"
        )
    return Checkpoint(f"local-dir:{folder}", weights, config=config)


def _known(model: str) -> str:
    if _comes_with_open_clip(model):
        return model
    import open_clip

    if model not in open_clip.list_models():
        raise EncoderError("open_clip has no such model", got=repr(model), remedy="see 'simat encoders --all'")
    return model


def _comes_with_open_clip(model: str) -> bool:
    """Looked up among its files: importing it takes seconds, and a network that is converted does not need it."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        return False
    return (Path(package.origin).with_name("model_configs") / f"{model}.json").is_file()


def _tagged(model: str, tag: str) -> Checkpoint:
    import open_clip

    pretrained = open_clip.get_pretrained_cfg(model, tag)
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise EncoderError(f"{model} has no such weights", got=repr(tag), remedy=f"there are: {tags or 'none'}")
    trained_quick = pretrained.get("quick_gelu", False)
    if trained_quick != open_clip.get_model_config(model).get("quick_gelu", False):
        # The vectors would be wrong without any other sign of it.
        right = f"{model}-quickgelu" if trained_quick else model.removesuffix("-quickgelu")
        raise EncoderError(f"{tag} was trained with another activation than {model}", remedy=f"use {right}/{tag}")
    try:
        weights = Path(open_clip.download_pretrained(pretrained))
    except (OSError, RuntimeError, ValueError) as error:  # of the network, the hub's client, and open_clip
        raise EncoderError(
            f"cannot download {model}/{tag}", got=str(error).splitlines()[0], remedy=f"fetch it elsewhere and {HELP}"
        ) from error
    return Checkpoint(model, weights, tag=tag)


def transform_of(model: Any) -> ImageTransform:
    """The preprocessing that a model's own configuration asks for."""
    import open_clip

    config = {**open_clip.get_model_preprocess_cfg(model)}
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize = config.get("resize_mode", "shortest")
    if resize == "shortest" and height != width:
        raise EncoderError("shortest-edge resizing to a frame that is no square", got=f"{height} × {width}")
    return ImageTransform(
        height,
        width,
        edge=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize=resize,
        interpolation=config.get("interpolation", "bicubic").upper(),
        fill=config.get("fill_color", 0),
    )


class OpenClipEncoder:
    """Image and text tower of one checkpoint; preprocessing and context length from its own configuration."""

    def __init__(self, spec: str, checkpoint: Checkpoint, options: RuntimeOptions) -> None:
        self._checkpoint, self._options = checkpoint, options
        facts = self._facts()
        self._transform = ImageTransform.from_dict(facts["transform"])
        fingerprint = sha256_text(f"{checkpoint.fingerprint}\n{self._transform}")
        self._space = EmbeddingSpace(spec, fingerprint, facts["dim"])
        self._causal: bool = facts["causal"]

    @property
    def space(self) -> EmbeddingSpace:
        """The joint space of this checkpoint."""
        return self._space

    @property
    def transform(self) -> ImageTransform:
        """The preprocessing of the model's configuration."""
        return self._transform

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per transformed image."""
        return self._images(pixels)

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per upright RGB image."""
        if not images:
            return np.empty((0, self._space.dim), np.float32)
        return self.encode_pixels(np.stack([self._transform.pixels(image) for image in images]))

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text; texts over the context length are cut, as open_clip does."""
        if not texts:
            return np.empty((0, self._space.dim), np.float32)
        return self._texts(self._cut(self._tokenizer(texts).numpy()))

    def _facts(self) -> dict[str, Any]:
        """Dimension, preprocessing and kind of text tower, cached so that we know them without loading the weights."""
        path = cache_folder("open_clip") / f"{self._checkpoint.fingerprint}-{FACTS}.json"
        if not path.exists():
            import torch

            from simat.encoders.networks import CausalTexts

            model = self._checkpoint.create()
            with torch.no_grad():
                dim = model.encode_text(self._tokenizer(["x"])).shape[1]
            facts = {"dim": dim, "transform": transform_of(model).as_dict(), "causal": CausalTexts.fits(model)}
            write_text(path, json.dumps(facts))
        known: dict[str, Any] = json.loads(path.read_text())
        return known

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        return open_clip.get_tokenizer(self._checkpoint.model)

    @cached_property
    def _images(self) -> Runtime:
        frame = (2, self._transform.height, self._transform.width, 3)
        return self._start("image", self._image_tower, lambda: (np.zeros(frame, np.uint8),), fixed=True)

    @cached_property
    def _texts(self) -> Runtime:
        tower = "causal-text" if self._causal else "text"
        return self._start(tower, self._text_tower, lambda: (self._tokenizer(EXAMPLE_TEXTS).numpy(),), fixed=False)

    def _start(self, tower: str, build: Any, example: Any, fixed: bool) -> Runtime:
        key = f"open_clip-{self._space.fingerprint[:16]}-{tower}"
        batch = BATCH[self._options.precision] if fixed else 32
        return start(Network(key, build, example, batch=batch, fixed=fixed), self._options)

    def _image_tower(self) -> torch.nn.Module:
        from simat.encoders.networks import FromPixels, Method

        return FromPixels(Method(self._checkpoint.create(), "encode_image"), self._transform)

    def _text_tower(self) -> torch.nn.Module:
        from simat.encoders.networks import CausalTexts, Method

        clip = self._checkpoint.create()
        return CausalTexts(clip) if self._causal else Method(clip, "encode_text")

    def _cut(self, tokens: Int64[np.ndarray, "n context"]) -> Int64[np.ndarray, "n length"]:
        """Tokens without the padding that all texts have, as far as the tower can do without it.

        Most texts fill an eighth of the context. The length is a multiple of ``STEP``: few lengths to prepare for.
        """
        if not self._causal:
            return tokens
        longest = int(tokens.argmax(1).max()) + 1
        return np.ascontiguousarray(tokens[:, : -(-longest // STEP) * STEP])
