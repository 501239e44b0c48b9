"""The official release of SIMAT: the files of its repository, read as they are and checked against one another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.corpus import CorpusError
from data.regions import Box, Region, Triplet
from data.simat.queries import Query
from data.simat.tensors import read_heads, read_matrix, read_words
from data.simat.text import clean_line, read_lines, read_rows, whole_number
from data.simat.vocabulary import FIELDS

SMALL = ("simat_db/retrieval_db.tsv", "simat_db/triplets.csv", "simat_db/transfos.csv", "simat_db/captions.txt")
WORDS, MATRIX = "data/simat_words_clip.ptd", "simat_db/oscar_similarity_matrix.pt"
LARGE: Mapping[str, str] = {
    MATRIX: "the released oracle; everything but scores by OSCAR works without it",
    "data/simat_img_clip.pt": "the crops' released CLIP vectors; encode the crops instead",
    WORDS: "the words' released CLIP vectors; encode the words instead",
    "data/head_clip_t=0.1.pt": "the released heads; train heads instead",
}
"""Files that a copy of the release may lack, and what goes without them."""

_BOX = re.compile(r"-?[0-9]{1,7}(,-?[0-9]{1,7}){3}")  # no photograph has more pixels
_DB = ("region_id", "image_id", "subj", "rel", "obj", "subj_id", "obj_id", "subj_bbox", "obj_bbox", "bbox",
       "subj_attr", "obj_attr")  # fmt: skip
_TRANSFOS = ("transfo_id", "region_id", "field", "value", "target", "norm", "query_ids", "target_ids", "dataset_id",
             "norm2", "is_test")  # fmt: skip


@dataclass(frozen=True)
class ReleasedQuery:
    """A row of ``transfos.csv``: the query, and the columns published scores rest on."""

    query: Query
    transfo_id: int
    norm: int
    query_ids: int
    target_ids: int
    dataset_id: int
    norm2: int
    is_test: bool


class Release:
    """A copy of the release's repository.

    Raises:
        CorpusError: one of the ``SMALL`` files is missing; it says which.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in SMALL if not (folder / name).is_file()]
        if missing:
            raise CorpusError(
                "not a whole copy of the release of SIMAT",
                got=f"{folder} without {', '.join(missing)}",
                remedy="give the folder that holds simat_db/ and data/",
            )
        self.folder = folder

    def missing(self) -> dict[str, str]:
        """The ``LARGE`` files that are not here, and what goes without each."""
        return {name: use for name, use in LARGE.items() if not (self.folder / name).is_file()}

    @cached_property
    def annotations(self) -> list[Region]:
        """Every region of ``retrieval_db.tsv``, in its order.

        Raises:
            CorpusError: damaged, a word or box missing, or a region twice.
        """
        return read_regions_tsv(self.folder / SMALL[0])

    @cached_property
    def triplets(self) -> list[Triplet]:
        """The triplets, in the order of their captions: that of their first appearance in ``triplets.csv``."""
        return list(dict.fromkeys(region.triplet for region in self.regions))

    @cached_property
    def regions(self) -> list[Region]:
        """The regions of the retrieval database, in the order of ``triplets.csv``.

        Raises:
            CorpusError: damaged, or a region that ``retrieval_db.tsv`` lacks or annotates otherwise.
        """
        return [self._known(where, region_id, triplet) for where, region_id, triplet, _ in self._rows]

    @cached_property
    def matrix_rows(self) -> dict[int, int]:
        """Row of each region id in the oracle's matrix: ``dataset_id`` of ``triplets.csv``."""
        return {region_id: row for _, region_id, _, row in self._rows}

    @cached_property
    def captions(self) -> dict[Triplet, str]:
        """Caption of each triplet, in the order of ``captions.txt``.

        Line by line, as published scores read them, though the release gives a cat on a window the caption of a cat on
        a window sill and the other way round: 192 queries.

        Raises:
            CorpusError: empty, too long, not printable, or not one line per triplet.
        """
        path = self.folder / SMALL[3]
        lines = [clean_line(line, f"line {i} of {path.name}") for i, line in enumerate(read_lines(path), 1)]
        if len(lines) != len(self.triplets):
            raise CorpusError(
                "captions.txt does not fit triplets.csv", got=f"{len(lines)} captions for {len(self.triplets)} triplets"
            )
        return dict(zip(self.triplets, lines, strict=True))

    @cached_property
    def queries(self) -> list[ReleasedQuery]:
        """The rows of ``transfos.csv``, in its order.

        Raises:
            CorpusError: damaged, or a query whose region or word is not the region's.
        """
        rows = read_rows(self.folder / SMALL[2], _TRANSFOS)
        return [self._query(where, dict(zip(_TRANSFOS, row, strict=True))) for where, row in rows]

    def words(self) -> dict[str, Float[np.ndarray, " d"]]:
        """The words' CLIP vectors; see :func:`data.simat.tensors.read_words`."""
        return read_words(self._large(WORDS))

    def heads(self) -> dict[str, dict[str, Float[np.ndarray, "*shape"]]]:
        """The heads of every file ``data/head_….pt`` by its name without suffix; see ``read_heads``."""
        return {path.stem: read_heads(path) for path in sorted((self.folder / "data").glob("head_*.pt"))}

    def matrix(self) -> Float[np.ndarray, "regions captions"]:
        """OSCAR's probabilities: rows by :attr:`matrix_rows`, columns in the order of :attr:`captions`.

        Raises:
            CorpusError: missing (it says what works without), damaged, or of another shape.
        """
        matrix = read_matrix(self._large(MATRIX))
        if matrix.shape != (len(self.regions), len(self.triplets)):
            raise CorpusError(
                f"{Path(MATRIX).name} does not fit the release",
                got=f"{matrix.shape} instead of {(len(self.regions), len(self.triplets))}",
            )
        return matrix

    @cached_property
    def _rows(self) -> list[tuple[str, int, Triplet, int]]:
        rows: dict[int, tuple[str, int, Triplet, int]] = {}
        for where, (number, *words, row) in read_rows(self.folder / SMALL[1], ("region_id", *FIELDS, "dataset_id")):
            region_id = whole_number(number, where)
            if region_id in rows:
                raise CorpusError(f"{where} has a region for the second time", got=region_id)
            rows[region_id] = where, region_id, (words[0], words[1], words[2]), whole_number(row, where)
        return list(rows.values())

    @cached_property
    def _by_id(self) -> dict[int, Region]:
        return {region.region_id: region for region in self.annotations}

    def _known(self, where: str, region_id: int, triplet: Triplet) -> Region:
        region = self._by_id.get(region_id)
        if region is None or region.triplet != triplet:
            found = "nothing" if region is None else region.triplet
            raise CorpusError(f"{where} does not fit retrieval_db.tsv, which has {found}", got=(region_id, *triplet))
        return region

    def _query(self, where: str, row: Mapping[str, str]) -> ReleasedQuery:
        numbers = {name: whole_number(row[name], where) for name in _TRANSFOS if name not in _TEXTS}
        region = self._by_id.get(numbers.pop("region_id"))
        if region is None or row["field"] not in FIELDS or row["is_test"] not in {"True", "False"}:
            raise CorpusError(f"{where} names no region, field or domain", got=[*row.values()])
        query = Query(region, FIELDS[FIELDS.index(row["field"])], clean_line(row["target"], where))
        if query.value != row["value"]:
            raise CorpusError(f"{where} changes a word that the region does not have", got=row["value"])
        return ReleasedQuery(query, **numbers, is_test=row["is_test"] == "True")

    def _large(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise CorpusError(f"the release lacks {name}, {LARGE[name]}", got=str(self.folder))
        return path


_TEXTS = frozenset({"field", "value", "target", "is_test"})


def read_regions_tsv(path: Path) -> list[Region]:
    """Regions of a file in the format of ``retrieval_db.tsv``, in its order.

    Raises:
        CorpusError: damaged, a word or box missing, or a region twice.
    """
    regions: dict[int, Region] = {}
    for where, row in read_rows(path, _DB, "\t"):
        region = _region(where, row)
        if region.region_id in regions:
            raise CorpusError(f"{where} has a region for the second time", got=region.region_id)
        regions[region.region_id] = region
    return list(regions.values())


def _region(where: str, row: list[str]) -> Region:
    region_id, image_id, subject_id, object_id = (whole_number(row[i], where) for i in (0, 1, 5, 6))
    subject, relation, obj = (clean_line(row[i], f"{_DB[i]} on {where}") for i in (2, 3, 4))
    subject_box, object_box, crop = (_box(row[i], f"{_DB[i]} on {where}") for i in (7, 8, 9))
    of_subject, of_object = (tuple(word for word in row[i].split(",") if word) for i in (10, 11))
    names = subject, relation, obj, subject_id, object_id
    return Region(region_id, image_id, *names, subject_box, object_box, crop, of_subject, of_object)


def _box(text: str, where: str) -> Box:
    x0, y0, x1, y1 = map(int, text.split(",")) if _BOX.fullmatch(text) else (0, 0, 0, 0)
    if x0 >= x1 or y0 >= y1:
        raise CorpusError(f"{where} is no box x0,y0,x1,y1", got=repr(text[:40]))
    return x0, y0, x1, y1
