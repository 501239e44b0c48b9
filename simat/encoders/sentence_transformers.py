"""``sentences:FOLDER`` or ``sentences:NAME``: any model of sentence-transformers, run by that library itself.

All modules that its ``modules.json`` lists take part: LaBSE (Feng et al. 2020; thesis 3.4.2) pools the first token,
then has a dense layer with tanh. A name is downloaded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from simat.encoders.checkpoints import first_line
from simat.encoders.runtime import RuntimeOptions, torch_device
from simat.encoders.sentences import silence_transformers
from simat.errors import EncoderError
from simat.files import cache_folder, sha256_file, sha256_text, write_text
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 32
HELP = "write sentences:/path/to/folder or sentences:NAME, for example sentences:sentence-transformers/LaBSE"
_SETTINGS = ("config_sentence_transformers.json", "sentence_bert_config.json", "config.json")
# In each group the library reads the first that is there.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")


def load(argument: str, options: RuntimeOptions) -> SentenceTower:
    """Entry point of ``sentences``.

    Raises:
        EncoderError: no such folder, not a model of the library, a failed download.
    """
    if not argument:
        raise EncoderError("this names no sentence encoder", got=repr(argument), remedy=HELP)
    local = argument.startswith(("/", "./", "../", "~")) or Path(argument).is_dir()
    folder = Path(argument).expanduser() if local else _downloaded(argument)
    if not (folder / "modules.json").is_file():
        raise EncoderError("not a sentence-transformers folder", got=str(folder), remedy="it needs modules.json")
    return SentenceTower(f"sentences:{argument}", folder, options)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the files of a model's modules that decide its vectors.

    Raises:
        EncoderError: a ``modules.json`` that cannot be read.
    """
    lines = [f"{path.relative_to(folder)} {sha256_file(path)}" for path in _files(folder)]
    return sha256_text("\n".join(["sentence-transformers", *lines]))


class SentenceTower:
    """Texts to normalised sentence vectors."""

    def __init__(self, spec: str, folder: Path, options: RuntimeOptions) -> None:
        self._folder, self._options = folder, options
        identity = fingerprint(folder)
        self._space = EmbeddingSpace(spec, identity, self._dim(identity))

    @property
    def space(self) -> EmbeddingSpace:
        """The sentence space of the model; no image lives in it."""
        return self._space

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text; texts over the model's length are cut, as its authors do."""
        return unit_rows(self._encode(texts), "text vector") if texts else np.empty((0, self._space.dim), np.float32)

    def _encode(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        import torch

        with torch.autocast(self._device, torch.bfloat16, enabled=self._options.precision == "bf16"):
            rows = self._model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(rows, np.float32)

    def _dim(self, identity: str) -> int:
        """Length of a vector, cached so that the weights need not be loaded to know it."""
        path = cache_folder("sentences") / f"{identity}.json"
        if not path.exists():
            write_text(path, json.dumps({"dim": self._encode(["x"]).shape[1]}))
        return int(json.loads(path.read_text())["dim"])

    @cached_property
    def _device(self) -> str:
        return torch_device(self._options)

    @cached_property
    def _model(self) -> SentenceTransformer:
        import torch

        if self._device == "cpu":
            torch.set_num_threads(self._options.cores)
        return _open(str(self._folder), self._device)


def _open(source: str, device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    silence_transformers()
    try:
        return SentenceTransformer(source, device=device)
    except Exception as error:  # whatever the weights, the configuration or the network make the libraries raise
        raise EncoderError(f"cannot load the sentence encoder {source}", got=first_line(error), remedy=HELP) from error


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    _open(name, "cpu")  # fetches what the library reads of the model, and no other format of it
    return Path(snapshot_download(name, local_files_only=True))


def _files(folder: Path) -> Iterator[Path]:
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        places = [folder / module["path"] for module in modules]
    except (ValueError, TypeError, KeyError) as error:
        raise EncoderError(f"cannot read modules.json in {folder}", got=first_line(error)) from error
    yield folder / "modules.json"
    for place in dict.fromkeys([folder, *places]):
        yield from (place / name for name in _SETTINGS if (place / name).is_file())
        for patterns in (_WEIGHTS, _TOKENIZERS):
            yield from next((found for pattern in patterns if (found := sorted(place.glob(pattern)))), [])
