"""The layout that is painted on the page: named segments as runs of cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from simat.errors import QueryError

SIDE = 128  # cells, each way
MOST = 6  # segments
_RUN = re.compile(r"([0-9a-z]{1,4})([A-G])")
_RUNS = re.compile(r"(?:[0-9a-z]{1,4}[A-G])*")
Cells = UInt8[np.ndarray, "128 128"]


def read_layout(value: Any) -> dict[str, np.ndarray]:
    """Masks by words, [SIDE, SIDE] in {0, 1}, of the segments that have cells.

    Args:
        value: ``{"words": [...], "cells": runs}`` as the browser sent it.

    Raises:
        QueryError: cells without words, words twice, or no layout at all.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("words"), list):
        raise QueryError("nothing is painted", remedy="paint at least one segment and name it")
    cells = read_cells(str(value.get("cells", "")))
    masks: dict[str, np.ndarray] = {}
    for number, given in enumerate(value["words"][:MOST], 1):
        words, mask = str(given).strip(), (cells == number).astype(np.float32)
        if not mask.any():
            continue
        if not words:
            raise QueryError("a painted segment has no name", remedy="name it by words of the text")
        if words in masks:
            raise QueryError("two segments have the same name", got=repr(words), remedy="paint both as one segment")
        masks[words] = mask
    if not masks:
        raise QueryError("nothing is painted", remedy="paint at least one segment and name it")
    return masks


def read_cells(text: str) -> Cells:
    """Which segment every cell belongs to, 0 for none, from runs: a length in base 36, then a letter, A for none.

    Raises:
        QueryError: no such runs, or not ``SIDE`` × ``SIDE`` cells.
    """
    if not text:
        return np.zeros((SIDE, SIDE), np.uint8)
    if len(text) > 4 * SIDE * SIDE or not _RUNS.fullmatch(text):
        raise QueryError("the layout cannot be read", remedy="paint it again")
    runs = [(int(count, 36), ord(letter) - ord("A")) for count, letter in _RUN.findall(text)]
    counts = [count for count, _ in runs]
    if sum(counts) != SIDE * SIDE:
        raise QueryError("the layout is not complete", got=f"{sum(counts)} cells", remedy="paint it again")
    return np.repeat(np.array([number for _, number in runs], np.uint8), counts).reshape(SIDE, SIDE)


def write_cells(cells: Cells) -> str:
    """The inverse of :func:`read_cells`."""
    flat = cells.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    pairs = zip(np.diff(starts), flat[starts[:-1]], strict=True)
    return "".join(f"{np.base_repr(int(count), 36).lower()}{chr(ord('A') + int(number))}" for count, number in pairs)


def example_layout() -> dict[str, Any]:
    """A dog on a beach, for those who have not painted yet."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    cells = np.zeros((SIDE, SIDE), np.uint8)
    cells[rows >= 84] = 2
    cells[((columns - 62) / 34) ** 2 + ((rows - 74) / 25) ** 2 <= 1] = 1
    return {"words": ["dog", "beach"], "cells": write_cells(cells)}
