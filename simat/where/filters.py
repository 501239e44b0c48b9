"""A filter, and the filters that an open index remembers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from simat.embeddings import PartReader
from simat.selection import Selection
from simat.where.columns import Columns
from simat.where.database import evaluated
from simat.where.parsing import parse_condition
from simat.where.sql import condition_sql
from simat.where.tree import Node, names

REMEMBERED = 64 * 2**20  # bytes of filters and selections that are kept, beside the last one
OVERHEAD = 1024  # bytes of a selection beside its bits


@dataclass(frozen=True)
class Filter:
    """A condition on the metadata of an image.

    Attributes:
        text: as it was written.
        condition: what it says.
    """

    text: str
    condition: Node

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read one boolean SQL expression over the columns of the metadata.

        Raises:
            QueryError: it does not parse, or tries to do anything but filter.
        """
        return cls(text, parse_condition(text))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, as it writes them."""
        return names(self.condition)

    def select(self, embeddings: PartReader, rows: int | None = None) -> Selection:
        """The rows for which the condition is true; not those for which it is false or unknown.

        Args:
            embeddings: an open embedding set.
            rows: how many of its rows, from the first; None for all.

        Raises:
            QueryError: a column that is not there (lists those that are), or a condition that is no truth value or
                cannot be computed.
        """
        found = self.among(Columns(embeddings))
        return found if rows is None or rows == found.rows else found.slice(0, rows)

    def among(self, columns: Columns) -> Selection:
        """As :meth:`select`, over columns that may be in memory already."""
        import pyarrow as pa

        known = {name: columns.named(name) for name in self.columns}
        places = {name: f"c{place}" for place, name in enumerate(dict.fromkeys(known.values()))}
        sql = condition_sql(self.condition, {name: places[own] for name, own in known.items()})
        masks = [np.zeros(0, bool)]
        for rows, found in columns.blocks([*places]):
            counted = pa.nulls(rows, pa.int8())  # a table of no columns has no rows
            masks.append(evaluated(sql, pa.table([counted, *found], names=["rowed", *places.values()])))
        return Selection.of(np.concatenate(masks))


class Filters:
    """What filters select in one embedding set; the last answers are remembered. Safe to share between threads.

    Args:
        embeddings: an open embedding set.

    Attributes:
        columns: its metadata.
    """

    def __init__(self, embeddings: PartReader) -> None:
        self.columns = Columns(embeddings)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Selection] = OrderedDict()
        self._bytes = 0

    def selection(self, text: str) -> Selection:
        """The rows that a filter selects.

        Raises:
            QueryError: as :meth:`Filter.parse` and :meth:`Filter.select` do.
        """
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
        found = Filter.parse(text).among(self.columns)
        with self._lock:
            if text not in self._known:
                self._known[text] = found
                self._bytes += size_of(text, found)
            while self._bytes > REMEMBERED and len(self._known) > 1:
                self._bytes -= size_of(*self._known.popitem(last=False))
        return found


def size_of(text: str, found: Selection) -> int:
    """The bytes of memory that a remembered filter takes, at most."""
    return 4 * len(text) + found.bits.nbytes + OVERHEAD
