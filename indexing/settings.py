"""Settings of a search, from fast to exact: how many lists are probed, how many candidates are scored exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from indexing.factory import is_compressed, search_knob
from simat.searcher import RERANK

CANDIDATES = (8, 32, 128)  # times k: scored exactly where codes are compressed
GAIN = 0.003  # of recall: what twice the effort must bring, or the codes are what limits it

Search = dict[str, int]


def search_settings(index: Any) -> list[list[Search]]:
    """Rising settings of the knob of ``index``, once for every number of candidates that are scored exactly.

    Codes that keep little of a vector are always scored again; others only where the rest does not suffice. An exact
    index has the one setting that sets nothing.
    """
    knob = search_knob(index)
    rising: list[Search] = [{knob[0]: value} for value in knob[1]] if knob else [{}]
    compressed = is_compressed(index)
    if compressed is None:
        return [rising]
    ladders = [[{**search, RERANK: times} for search in rising] for times in CANDIDATES]
    return ladders if compressed else [rising, *ladders]


def first_to_reach(target: float, settings: Sequence[Sequence[Search]], recall: Callable[[Search], float]) -> Search:
    """The first setting whose recall is ``target``; the last and most exact where none is.

    Args:
        target: recall wanted.
        settings: of :func:`search_settings`; all but the last list are left when they bring no more.
        recall: measures one setting.
    """
    search: Search = {}
    for number, rising in enumerate(settings):
        before = 0.0
        for search in rising:
            found = recall(search)
            if found >= target:
                return search
            if found < before + GAIN and number < len(settings) - 1:
                break
            before = found
    return search
