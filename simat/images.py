"""From the bytes of a file, whoever made it, to an upright RGB picture and the pixels a network takes."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageFile, UnidentifiedImageError

from simat import containers
from simat.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # JPEG opens MPO, the format of many phones, too
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
)
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 128 * 10**6
MAX_ASPECT = 200  # a strip of 20,000 × 1 pixels resizes to gigabytes

_TURN = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    MemoryError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    RuntimeError,
    struct.error,
)


@dataclass(frozen=True)
class ImageTransform:
    """The preprocessing of a network up to, not including, normalisation.

    Attributes:
        height, width: size of the result.
        resize: ``shortest`` edge to ``edge`` then centre crop, ``longest`` edge to the frame then pad,
            or ``squash`` to the frame.
        edge: length of the shortest edge before the crop.
        interpolation: a name of ``PIL.Image.Resampling``.
        mean, std: per-channel constants, for pixels in [0, 1]; applied inside the network's graph.
        fill: grey value of the padding.
    """

    height: int
    width: int
    edge: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: str = "BICUBIC"
    fill: int = 0

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """Resize, crop or pad an RGB image to ``height`` × ``width``."""
        resampling = Image.Resampling[self.interpolation]
        if self.resize == "squash":
            resized = image.resize((self.width, self.height), resampling)
        else:
            resized = image.resize(self._size_before_crop(image.width, image.height), resampling)
        left, top = _centre(resized.width, self.width), _centre(resized.height, self.height)
        if (left, top) != (0, 0) or resized.size != (self.width, self.height):
            framed = Image.new("RGB", (self.width, self.height), (self.fill,) * 3)
            framed.paste(resized, (-left, -top))
            resized = framed
        return np.asarray(resized)

    def _size_before_crop(self, width: int, height: int) -> tuple[int, int]:
        if self.resize == "shortest":  # truncation, as torchvision does it
            if width <= height:
                return self.edge, int(self.edge * height / width)
            return int(self.edge * width / height), self.edge
        ratio = max(height / self.height, width / self.width)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    @property
    def draft_edge(self) -> int:
        """The shortest edge below which a JPEG must not be scaled while decoding."""
        return max(self.edge, self.height, self.width)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for fingerprints and manifests."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageTransform:
        """The inverse of :meth:`as_dict`, after a journey through JSON."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a regular file, or of a picture inside a container, of at most ``MAX_BYTES``.

    Raises:
        ImageError: missing, unreadable, empty, too large, or no regular file.
    """
    return containers.read_bytes(Path(path), MAX_BYTES)


def decode(data: bytes, draft_edge: int | None = None) -> Image.Image:
    """The image of :func:`decode_sized`, where the size of the original does not matter."""
    return decode_sized(data, draft_edge)[0]


def decode_sized(
    data: bytes, draft_edge: int | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an untrusted image file to an upright RGB image, its first frame, on white.

    Args:
        data: the whole file.
        draft_edge: let the JPEG decoder scale by 1/2, 1/4 or 1/8 while the shortest edge stays at least this.
        max_pixels: width × height at most, before any scaling.

    Returns:
        The image, perhaps scaled, and the upright (width, height) of the original.

    Raises:
        ImageError: not an allowed format, truncated, corrupt, or over the pixel and aspect limits.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            _check_size(width, height, max_pixels)
            if draft_edge is not None and image.format in {"JPEG", "MPO"}:
                _draft(image, draft_edge)
            image.load()
            turn = _turn(image)
            size = (height, width) if turn in _SIDEWAYS else (width, height)
            return _turned(_to_rgb(image), turn), size
    except UnidentifiedImageError as error:
        raise ImageError("not an image in a format we read", remedy=f"use {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is wider than ours, and comes first
        raise ImageError(f"more than {max_pixels / 10**6:g} megapixels") from error
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"corrupt or truncated image: {reason}") from error


def load_image(source: str | Path | Image.Image | UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """An upright RGB image from a path, a PIL image or an RGB array.

    Raises:
        ImageError: as :func:`read_bytes` and :func:`decode` do.
    """
    if isinstance(source, Image.Image):
        _check_size(source.width, source.height)
        return _turned(_to_rgb(source), _turn(source))
    if isinstance(source, np.ndarray):
        _check_size(source.shape[1], source.shape[0])
        return Image.fromarray(source)
    return decode(read_bytes(source))


def mask_of(picture: Image.Image) -> Float32[np.ndarray, "h w"]:
    """A mask from a picture: white is 1, black is 0."""
    mask: Float32[np.ndarray, "h w"] = np.asarray(picture.convert("L"), np.float32) / 255
    return mask


def _centre(size: int, frame: int) -> int:
    # Rounding as torchvision crops (half to even) and as open_clip pads (down).
    return round((size - frame) / 2) if size >= frame else -((frame - size) // 2)


def _check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    if width < 1 or height < 1:
        raise ImageError("the image has no pixels", got=f"{width} × {height}")
    if width * height > max_pixels:
        raise ImageError(f"more than {max_pixels / 10**6:g} megapixels", got=f"{width} × {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"longer than {MAX_ASPECT} times its width", got=f"{width} × {height}")


def _draft(image: ImageFile.ImageFile | Image.Image, edge: int) -> None:
    shortest = min(image.size)
    scale = max((s for s in (2, 4, 8) if shortest // s >= edge), default=1)
    if scale > 1 and isinstance(image, ImageFile.ImageFile):
        image.draft(None, (image.width // scale, image.height // scale))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURN.get(image.getexif().get(0x0112, 1))
    except _BROKEN:  # damaged EXIF says nothing about the pixels
        return None


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image.transpose(turn) if turn is not None else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit and float greys: PIL's own conversion clips at 255 instead of scaling."""
    grey: Float[np.ndarray, "h w"] = np.nan_to_num(np.asarray(image, dtype=np.float32))
    if image.mode == "F" and grey.max(initial=0) <= 1:
        grey = grey * 255
    elif grey.max(initial=0) > 255:
        grey = grey / 257
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
