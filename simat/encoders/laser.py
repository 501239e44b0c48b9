"""``laser:FOLDER``: LASER sentence vectors (Artetxe and Schwenk 2019; thesis 3.4.2), run by ``laserembeddings``.

The folder holds the three files that the authors released: BPE codes (``93langs.fcodes``), BPE vocabulary
(``93langs.fvocab``) and the encoder (``bilstm.93langs.2018-12-26.pt``). Texts of all its languages are cut into words
by the English rules of Moses; the encoder itself knows no language.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from simat.encoders.checkpoints import first_line, read_tensors
from simat.encoders.runtime import RuntimeOptions, torch_device
from simat.errors import EncoderError
from simat.files import sha256_file, sha256_text
from simat.plugins import required
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

SUFFIXES = (".fcodes", ".fvocab", ".pt")
LANGUAGE = "en"
RECIPE = "laser-en/1"  # changes whenever the same files would give other vectors
HELP = "write laser:/path/to/folder, which holds one .fcodes, one .fvocab and one .pt file"


def load(argument: str, options: RuntimeOptions) -> LaserTower:
    """Entry point of ``laser``.

    Raises:
        EncoderError: a file is missing or no LASER file, or the library is not installed.
    """
    folder = Path(argument).expanduser()
    files = [sorted(folder.glob(f"*{suffix}")) for suffix in SUFFIXES]
    if not argument or any(len(found) != 1 for found in files):
        counts = ", ".join(f"{len(found)} {suffix}" for found, suffix in zip(files, SUFFIXES, strict=True))
        raise EncoderError("not a LASER folder", got=f"{argument!r} with {counts}", remedy=HELP)
    codes, vocabulary, encoder = (found[0] for found in files)
    return LaserTower(f"laser:{argument}", codes, vocabulary, encoder, options)


class LaserTower:
    """Texts to normalised LASER vectors."""

    def __init__(self, spec: str, codes: Path, vocabulary: Path, encoder: Path, options: RuntimeOptions) -> None:
        self._laser = _open(codes, vocabulary, encoder, options)
        digests = "\n".join(sha256_file(path) for path in (codes, vocabulary, encoder))
        dim = int(self._laser.bpeSentenceEmbedding.encoder.encoder.output_units)
        self._space = EmbeddingSpace(spec, sha256_text(f"{RECIPE}\n{digests}"), dim)

    @property
    def space(self) -> EmbeddingSpace:
        """The sentence space of the encoder; no image lives in it."""
        return self._space

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text."""
        if not texts:
            return np.empty((0, self._space.dim), np.float32)
        return unit_rows(self._laser.embed_sentences(texts, lang=LANGUAGE), "text vector")


def _open(codes: Path, vocabulary: Path, encoder: Path, options: RuntimeOptions) -> Any:
    # The library unpickles the file as torch does by default: only what the safe reader has read comes that far.
    missing = {"params", "model", "dictionary"} - {*read_tensors(encoder)}
    if missing:
        raise EncoderError("this is no LASER encoder", got=f"{encoder} without {', '.join(sorted(missing))}")
    laserembeddings = required("laserembeddings", EncoderError, "pip install 'simat[text]'")
    import torch

    device = torch_device(options)
    if device == "cpu":
        torch.set_num_threads(options.cores)
    try:
        settings = {"cpu": device == "cpu", "stable": True}
        return laserembeddings.Laser(str(codes), str(vocabulary), str(encoder), embedding_options=settings)
    except Exception as error:  # whatever files that are none make the libraries raise
        raise EncoderError(f"cannot load LASER from {encoder.parent}", got=first_line(error)) from error
