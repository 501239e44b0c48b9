"""Data sets of Hugging Face's ``datasets``: on disk by ``save_to_disk``, or by name through ``load_dataset``.

Either way they are Arrow files, which are read where they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simat.errors import BuildError

PREFIX = "hf:"


def arrow_files(spec: str) -> list[Path]:
    """The Arrow files of ``FOLDER``, ``NAME`` or ``NAME:SPLIT``, in their order.

    Raises:
        BuildError: neither a saved data set nor one that can be loaded, or several splits to choose from.
    """
    folder = Path(spec).expanduser()
    return _saved(folder.absolute()) if _is_saved(folder) else _loaded(spec)


def _is_saved(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _saved(folder: Path) -> list[Path]:
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_bytes())["splits"]
            return [path for split in splits for path in _saved(_below(folder, split))]
        files = json.loads((folder / "state.json").read_bytes())["_data_files"]
        return [_below(folder, file["filename"]) for file in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError("the data set cannot be read", got=f"{folder}: {error}") from error


def _below(folder: Path, name: str) -> Path:
    if "/" in name or name in {"", ".", ".."}:
        raise BuildError("the data set names a file outside its folder", got=name)
    return folder / name


def _loaded(spec: str) -> list[Path]:
    try:
        from datasets import Dataset, load_dataset
    except ImportError as error:
        raise BuildError("data sets by name need another package", got=spec, remedy="pip install datasets") from error
    name, _, split = spec.partition(":")
    try:
        with _quietly():
            found: Any = load_dataset(name, split=split or None)
    except Exception as error:  # it may raise anything, of other packages, too
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BuildError("the data set cannot be loaded", got=f"{spec}: {reason}") from error
    if not isinstance(found, Dataset):
        if len(found) > 1:
            raise BuildError(
                "the data set has several splits", got=", ".join(found), remedy=f"write {PREFIX}{name}:SPLIT"
            )
        found = next(iter(found.values()))
    return _files_of(found, spec)


@contextmanager
def _quietly() -> Iterator[None]:
    """No bars of its own where nobody watches: standard error has one line per event there."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    unwatched = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if unwatched:
        disable_progress_bars()
    try:
        yield
    finally:
        if unwatched:
            enable_progress_bars()


def _files_of(dataset: Any, spec: str) -> list[Path]:
    """Its Arrow files, if these hold the data set and nothing else."""
    from simat.containers import table

    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files or sum(table(file).rows for file in files) != len(dataset):
        remedy = f"save it with save_to_disk(FOLDER) and write {PREFIX}FOLDER"
        raise BuildError("the data set is a part of its files, or in memory only", got=spec, remedy=remedy)
    return files
