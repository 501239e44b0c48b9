"""``shards/{00000..00012}.tar`` and ``{train,test}.parquet``: many paths in one word, as shells write them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from simat.errors import BuildError

MOST = 100_000  # paths of one pattern
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_BRACES = re.compile(rf"\{{([^{{}}]*,[^{{}}]*|{_RANGE.pattern})\}}")


def expanded(pattern: str) -> list[str]:
    """All words of a pattern, the first braces turning slowest; the pattern itself where it has none.

    Numbers are padded with zeros to the longer end of their range, where one of the ends is.

    Raises:
        BuildError: more than ``MOST`` words.
    """
    words: list[str] = []
    for word in _expanded(pattern):
        words.append(word)
        if len(words) > MOST:
            raise BuildError(f"the pattern stands for more than {MOST:,} files", got=pattern)
    return words


def _expanded(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in _choices(found[1]):
        for rest in _expanded(pattern[found.end() :]):
            yield pattern[: found.start()] + choice + rest


def _choices(inside: str) -> Iterator[str]:
    if (ends := _RANGE.fullmatch(inside)) is None:
        yield from inside.split(",")
        return
    first, last = int(ends[1]), int(ends[2])
    padded = any(len(end) > 1 and end[0] == "0" for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    yield from (f"{number:0{width}}" for number in range(first, last + step, step))
