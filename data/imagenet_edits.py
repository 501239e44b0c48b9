"""Editing queries on ImageNet: a photograph of one class that shall show another class (thesis 4.4.1, A.2).

Eight queries for each of 273 target classes: eight times another class of the target's cluster is drawn, with a
validation image of it that no other query has; four queries are for development and four for the test. The layout of
the file is that of the authors' own queries, so that either file will do.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.corpus import CorpusError
from data.imagenet_classes import ImagenetClass, imagenet_classes, sources_of
from simat.files import atomic
from simat.images import SUFFIXES

COLUMNS = ("path", "source", "source_id", "target", "target_id", "is_test")
QUERIES_PER_TARGET = 8


@dataclass(frozen=True)
class EditQuery:
    """Change what the image shows from one class into another.

    Attributes:
        path: the image, relative to the folder of the validation images: ``n02123045/NAME.JPEG``.
        source, target: names of the classes.
        source_id, target_id: their numbers among the 1,000 classes.
        is_test: of the test set, not the development set.
    """

    path: str
    source: str
    source_id: int
    target: str
    target_id: int
    is_test: bool

    @property
    def wnid(self) -> str:
        """WordNet id of the class whose folder the image lies in."""
        return self.path.split("/")[0]


def read_queries(path: Path) -> list[EditQuery]:
    """Read queries, in the order of the file; columns of other names are left alone.

    Raises:
        CorpusError: no such file, no UTF-8 text, a column is missing, or a value is not what it should be.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise CorpusError(f"the queries lack the columns {', '.join(missing)}", got=str(path))
            return [_query(row, f"line {rows.line_num} of {path}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CorpusError(f"cannot read the queries: {reason}", got=str(path)) from error


def write_queries(path: Path, queries: Sequence[EditQuery]) -> None:
    """Write queries in the authors' layout: a first column without a name counts the rows."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *COLUMNS])
        for number, q in enumerate(queries):
            writer.writerow([number, q.path, q.source, q.source_id, q.target, q.target_id, q.is_test])


def check_queries(queries: Sequence[EditQuery]) -> dict[str, int]:
    """Check that queries follow the protocol, and count them.

    Returns:
        ``queries``, ``dev``, ``test``, ``classes``, ``images``, ``pairs`` of (source, target).

    Raises:
        CorpusError: a class that is not among the 273 or under another number or folder, a pair that no cluster
            allows, a target without eight queries or without four of them in the test set, an image used twice.
    """
    known = {each.name: each for each in imagenet_classes()}
    for query in queries:
        _check_query(query, known)
    tests = Counter(q.target for q in queries if q.is_test)
    for target, count in Counter(q.target for q in queries).items():
        if count != QUERIES_PER_TARGET:
            raise CorpusError(f"{target!r} should be the target of {QUERIES_PER_TARGET} queries", got=count)
        if tests[target] != QUERIES_PER_TARGET // 2:
            raise CorpusError(f"half of the queries for {target!r} should be of the test set", got=tests[target])
    path, uses = Counter(q.path for q in queries).most_common(1)[0] if queries else ("", 1)
    if uses > 1:
        raise CorpusError(f"an image has {uses} queries", got=path)
    return _counts(queries)


def draw_queries(images: Mapping[str, Sequence[str]], rng: np.random.Generator) -> list[EditQuery]:
    """Draw queries by the protocol: source classes with replacement, images without.

    Args:
        images: for the name of each of the 273 classes, the paths of its images.

    Returns:
        2,184 queries, the targets in the order of their numbers, development before test.

    Raises:
        CorpusError: a class without images, or too few images for the queries that need them.
    """
    without = [each.name for each in imagenet_classes() if not images.get(each.name)]
    if without:
        raise CorpusError(f"{len(without)} of the 273 classes have no images", got=", ".join(without[:5]))
    known = {each.name: each for each in imagenet_classes()}
    left = {name: [*rng.permutation(sorted(images[name]))] for name in sorted(known)}
    return [query for target in known.values() for query in _draw_for(target, known, left, rng)]


def scan_validation(folder: Path) -> dict[str, list[str]]:
    """The images of the 273 classes in a folder with one subfolder per class, named by its WordNet id.

    Returns:
        For the name of each class, the paths of its images relative to ``folder``; classes without images are left out.

    Raises:
        CorpusError: no such folder, or no subfolder of any of the classes.
    """
    if not folder.is_dir():
        raise CorpusError("no such folder of ImageNet images", got=str(folder))
    found = {each.name: _images(folder, each.wnid) for each in imagenet_classes()}
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        raise CorpusError(
            "no subfolder is named by a WordNet id and holds images",
            got=str(folder),
            remedy="sort the validation images into one folder per class, such as n02123045",
        )
    return found


def _images(folder: Path, wnid: str) -> list[str]:
    paths = (folder / wnid).iterdir() if (folder / wnid).is_dir() else ()
    return sorted(f"{wnid}/{path.name}" for path in paths if path.suffix.lower() in SUFFIXES)


def _draw_for(
    target: ImagenetClass, known: Mapping[str, ImagenetClass], left: dict[str, list[str]], rng: np.random.Generator
) -> Iterator[EditQuery]:
    for number in range(QUERIES_PER_TARGET):
        sources = [name for name in sources_of()[target.name] if left[name]]
        if not sources:
            raise CorpusError(
                f"too few images in the cluster of {target.name!r}", remedy="give all 50 validation images of a class"
            )
        source = known[sources[rng.integers(len(sources))]]
        is_test = number >= QUERIES_PER_TARGET // 2
        yield EditQuery(str(left[source.name].pop()), source.name, source.index, target.name, target.index, is_test)


def _query(row: Mapping[str, str | None], where: str) -> EditQuery:
    path, source, source_id, target, target_id, is_test = ((row[name] or "").strip() for name in COLUMNS)
    if not (path and source and target) or is_test not in {"True", "False"}:
        raise CorpusError(f"{where} lacks a value", got=f"{path!r}, {source!r}, {target!r}, {is_test!r}")
    if not (source_id.isascii() and source_id.isdigit() and target_id.isascii() and target_id.isdigit()):
        raise CorpusError(f"{where}: the number of a class is none", got=f"{source_id!r}, {target_id!r}")
    return EditQuery(path, source, int(source_id), target, int(target_id), is_test == "True")


def _check_query(query: EditQuery, known: Mapping[str, ImagenetClass]) -> None:
    for name, index in ((query.source, query.source_id), (query.target, query.target_id)):
        if name not in known:
            raise CorpusError("a class that is not among the 273", got=repr(name))
        if known[name].index != index:
            raise CorpusError(f"the number of {name!r} is {known[name].index}", got=index)
    if query.wnid != known[query.source].wnid:
        raise CorpusError(f"an image of another class than {query.source!r}", got=query.path)
    if query.source not in sources_of()[query.target]:
        raise CorpusError("no cluster holds both classes", got=f"{query.source} -> {query.target}")


def _counts(queries: Sequence[EditQuery]) -> dict[str, int]:
    tests = sum(q.is_test for q in queries)
    return {
        "queries": len(queries),
        "dev": len(queries) - tests,
        "test": tests,
        "classes": len({q.source for q in queries} | {q.target for q in queries}),
        "images": len({q.path for q in queries}),
        "pairs": len({(q.source, q.target) for q in queries}),
    }
