"""Encoders by spec string: ``offline``, ``open_clip:MODEL/PRETRAINED``, or whatever a plugin registers."""

from __future__ import annotations

from simat import plugins
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.types import Encoder

DEFAULT = "offline"


def load_encoder(spec: str = DEFAULT, options: RuntimeOptions | None = None) -> Encoder:
    """Load the encoder that a spec names.

    Args:
        spec: ``NAME`` or ``NAME:ARGUMENT``; NAME is an entry point of the group ``simat.encoders``,
            a function ``(argument: str, options: RuntimeOptions) -> Encoder``.
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
    encoder = plugins.load(plugins.ENCODERS, name)(argument, options or RuntimeOptions())
    if not isinstance(encoder, Encoder):
        raise EncoderError(f"the plugin {name!r} returned no Encoder", got=type(encoder).__name__)
    return encoder
