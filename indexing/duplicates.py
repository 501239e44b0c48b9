"""Images that an index holds more than once: the very same file, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from indexing.generations import changing
from indexing.known import content_keys
from indexing.remove import Removed, commit_removal
from simat.embeddings import EmbeddingSet
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError
from simat.opened import Opened, open_index
from simat.progress import Progress, Silent
from simat.selection import Selection

THRESHOLD = 0.95
BATCH, FIRST_K, MOST_K = 256, 16, 4096
EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class Copy:
    """An image that could go.

    Attributes:
        id: of the image.
        kind: ``exact`` where its file has the same bytes, else ``near``.
        score: cosine of its vector to that of the image that stays.
    """

    id: int
    kind: str
    score: float


@dataclass(frozen=True)
class Group:
    """Images that are the same; ``kept`` is the largest, and the first of those."""

    kept: int
    copies: tuple[Copy, ...]


def find_duplicates(opened: Opened, threshold: float = THRESHOLD, progress: Progress | None = None) -> list[Group]:
    """Groups of images that are the same, by the id of the image that stays.

    Images are taken from the largest to the smallest; each that is left takes those that are as near to it as
    ``threshold`` and are left, too. So every copy is that near to the image that stays, not only to another copy.

    Args:
        opened: the index; where its search is approximate, near copies may be missed, exact ones never are.
        threshold: least cosine of two pictures that count as one; above 1, only exact copies do.
        progress: told of every image.

    Raises:
        BuildError: the threshold is not above 0.
    """
    if not threshold > 0:
        raise BuildError("the threshold must be above 0", got=threshold, remedy="0.95 finds what looks the same")
    progress = progress or Silent()
    return _Finder(opened, threshold).groups(progress)


def remove_duplicates(
    folder: Path,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    options: RuntimeOptions | None = None,
) -> tuple[list[Group], Removed]:
    """Find duplicates of the index in ``folder``, and remove all but one of each group.

    Raises:
        BuildError: as :func:`find_duplicates`, or another process changes the index.
        StorageError: no index, or damaged.
    """
    with changing(folder) as change:
        groups = find_duplicates(open_index(folder, options=options), threshold, progress)
        ids = np.array([copy.id for group in groups for copy in group.copies], np.int64)
        chosen = Selection.of_ids(ids, change.manifest.rows)
        return groups, commit_removal(change, change.removed() | chosen)


class _Finder:
    """One search for the duplicates of one index."""

    def __init__(self, opened: Opened, threshold: float) -> None:
        self._opened, self._threshold = opened, threshold
        self._embeddings: EmbeddingSet = opened.embeddings
        removed = opened.removed or Selection.none(opened.manifest.rows)
        self._left = ~removed.mask()  # neither removed nor a copy
        self._rank = np.zeros(len(self._left), np.int64)  # who stays comes before whom

    def groups(self, progress: Progress) -> list[Group]:
        order = self._largest_first()
        self._rank[order] = np.arange(len(order))
        progress.start("duplicates", len(order), "images")
        found: dict[int, list[Copy]] = {}
        for kept, copy in self._exact(order):
            found.setdefault(kept, []).append(Copy(copy, EXACT, 1.0))
            self._left[copy] = False
        for batch in np.array_split(order, range(BATCH, len(order), BATCH)):
            if self._threshold <= 1:
                self._take_near(batch, found)
            progress.advance(len(batch))
        return [Group(kept, tuple(sorted(copies, key=lambda copy: copy.id))) for kept, copies in sorted(found.items())]

    def _largest_first(self) -> Int64[np.ndarray, " n"]:
        """The images that are not removed, by the number of their pixels, then by id."""
        sizes = [
            table["width"].to_numpy().astype(np.int64) * table["height"].to_numpy()
            for table in self._embeddings.tables(["width", "height"])
        ]
        ids = np.flatnonzero(self._left)
        return ids[np.argsort(-np.concatenate(sizes)[ids], kind="stable")].astype(np.int64)

    def _exact(self, order: Int64[np.ndarray, " n"]) -> Iterator[tuple[int, int]]:
        """Pairs of an image and an exact copy of its file."""
        keys, known, first = np.zeros(self._opened.manifest.rows, np.uint64), np.zeros(len(self._left), bool), 0
        for table in self._embeddings.tables(["sha256"]):
            rows, found = content_keys(table["sha256"])
            keys[first + rows], known[first + rows] = found, True
            first += len(table)
        order = order[known[order]]
        by_key = order[np.argsort(keys[order], kind="stable")]
        ends = np.flatnonzero(np.diff(keys[by_key])) + 1
        runs = np.stack([np.concatenate([[0], ends]), np.concatenate([ends, [len(by_key)]])], axis=1)
        for start, end in runs[runs[:, 1] - runs[:, 0] > 1].tolist():
            yield from self._same_files(by_key[start:end])

    def _same_files(self, ids: Int64[np.ndarray, " n"]) -> Iterator[tuple[int, int]]:
        firsts: dict[str, int] = {}
        for id, row in zip(ids.tolist(), self._embeddings.rows(ids), strict=True):
            kept = firsts.setdefault(row.sha256, id)
            if kept != id:
                yield kept, id

    def _take_near(self, batch: Int64[np.ndarray, " n"], found: dict[int, list[Copy]]) -> None:
        batch = batch[self._left[batch]]
        if not len(batch):
            return
        for id, near in zip(batch.tolist(), self._near(batch, FIRST_K, MOST_K), strict=True):
            whole = len(near) < MOST_K or not self._left[id]
            for other, score in near if whole else self._near(np.array([id]), MOST_K, len(self._opened))[0]:
                if not self._left[id]:  # a copy of one before it
                    break
                if other != id and self._left[other]:
                    kept, copy = (id, other) if self._rank[id] < self._rank[other] else (other, id)
                    self._take(kept, copy, score, found)

    def _take(self, kept: int, copy: int, score: float, found: dict[int, list[Copy]]) -> None:
        """Make an image a copy of another, with the exact copies that it has; those that are near to it are left."""
        copies = found.pop(copy, [])
        self._left[[one.id for one in copies if one.kind == NEAR]] = True
        self._left[copy] = False
        exact = [Copy(one.id, NEAR, score) for one in copies if one.kind == EXACT]
        found.setdefault(kept, []).extend([Copy(copy, NEAR, score), *exact])

    def _near(self, ids: Int64[np.ndarray, " n"], first: int, most: int) -> list[list[tuple[int, float]]]:
        """The images above the threshold for each of ``ids``, best first, with their scores.

        Args:
            ids: of images.
            first: so many are looked for at first, and more where all of them are above the threshold.
            most: where as many are found, there may be more.
        """
        vectors = self._embeddings.vectors(ids)
        near: list[list[tuple[int, float]]] = [[]] * len(ids)
        asked, k, rows = np.arange(len(ids)), first, len(self._opened)
        while len(asked):
            hits = self._opened.searcher.search(vectors[asked], min(k, rows))
            above = (hits.ids >= 0) & (hits.scores >= self._threshold)
            for place, found, scores, good in zip(asked.tolist(), hits.ids, hits.scores, above, strict=True):
                near[place] = [*zip(found[good].tolist(), np.minimum(scores[good], 1).tolist(), strict=True)]
            asked = asked[above[:, -1]] if k < min(rows, most) else asked[:0]
            k *= 4
        return near
