"""Encoders by spec string: ``offline``, ``open_clip:MODEL/PRETRAINED``, or whatever a plugin registers.

Some encoders are a single tower, for images or for texts alone: ``combined:image=SPEC,text=SPEC,heads=FOLDER``
makes an encoder of two of them.
"""

from __future__ import annotations

from simat import plugins
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.types import Encoder, ImageEncoder, TextEncoder

DEFAULT = "offline"


def load_tower(spec: str, options: RuntimeOptions | None = None) -> ImageEncoder | TextEncoder:
    """Load whatever a spec names: an encoder of images, of texts, or of both.

    Args:
        spec: ``NAME`` or ``NAME:ARGUMENT``; NAME is an entry point of the group ``simat.encoders``,
            a function ``(argument: str, options: RuntimeOptions) -> ImageEncoder | TextEncoder``.
        options: precision, device and threads.

    Raises:
        EncoderError: an unknown name, or weights that cannot be had.
    """
    name, _, argument = spec.partition(":")
    known = plugins.registered(plugins.ENCODERS)
    if name not in known:
        raise EncoderError(
            "no such encoder", got=repr(spec), remedy=f"there are: {', '.join(known)}; see 'simat encoders'"
        )
    tower = plugins.load(plugins.ENCODERS, name)(argument, options or RuntimeOptions())
    if not isinstance(tower, ImageEncoder | TextEncoder):
        raise EncoderError(f"the plugin {name!r} returned no Encoder", got=type(tower).__name__)
    return tower


def load_encoder(spec: str = DEFAULT, options: RuntimeOptions | None = None) -> Encoder:
    """Load an encoder of images and texts; arguments and errors as :func:`load_tower`.

    Raises:
        EncoderError: the spec names a single tower.
    """
    tower = load_tower(spec, options)
    if isinstance(tower, Encoder):
        return tower
    images = isinstance(tower, ImageEncoder)
    partner = f"image={spec},text=SPEC" if images else f"image=SPEC,text={spec}"
    raise EncoderError(
        f"this encoder reads {'images' if images else 'texts'} only",
        got=repr(spec),
        remedy=f"combine it: combined:{partner},heads=FOLDER",
    )


def load_image_encoder(spec: str = DEFAULT, options: RuntimeOptions | None = None) -> ImageEncoder:
    """Load an encoder that reads images, and perhaps texts; arguments and errors as :func:`load_tower`.

    Raises:
        EncoderError: the spec names a tower of texts.
    """
    tower = load_tower(spec, options)
    if not isinstance(tower, ImageEncoder):
        raise EncoderError(
            "this encoder reads no images", got=repr(spec), remedy=f"combine it: combined:image=SPEC,text={spec}"
        )
    return tower


def load_towers(spec: str = DEFAULT, options: RuntimeOptions | None = None) -> tuple[ImageEncoder, TextEncoder]:
    """The image tower and the text tower of a spec, as heads are trained on them.

    ``combined:image=A,text=B`` without heads gives its parts, of any two dimensions; every other encoder is both.
    """
    from simat.encoders.combined import NAME, Parts

    name, _, argument = spec.partition(":")
    if name == NAME and (parts := Parts.parse(argument)).heads is None:
        return parts.load(options or RuntimeOptions())
    encoder = load_encoder(spec, options)
    return encoder, encoder
