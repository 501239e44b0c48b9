"""The small dual encoder of the picture-book world, which comes with this package; see ``models/scenes/dual``."""

from __future__ import annotations

from pathlib import Path

from simat.encoders.open_clip import OpenClipEncoder, locate
from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError

FOLDER = Path(__file__).resolve().parents[1] / "models" / "scenes" / "dual"


def load(argument: str, options: RuntimeOptions) -> OpenClipEncoder:
    """Entry point of ``scenes``; takes no argument."""
    if argument:
        raise EncoderError(
            "the encoder of the scene world takes no argument", got=repr(argument), remedy="write 'scenes'"
        )
    return OpenClipEncoder("scenes", locate(str(FOLDER)), options)
