"""Selections: the same as sets of numbers, bit for bit what FAISS reads."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simat.errors import QueryError
from simat.selection import Selection

MASKS = hnp.arrays(np.bool_, st.integers(0, 70))
PAIRS = st.integers(0, 70).flatmap(lambda rows: st.tuples(*[hnp.arrays(np.bool_, rows)] * 2))


def members(selection: Selection) -> set[int]:
    return {row for row in range(-3, selection.rows + 12) if row in selection}


@given(MASKS)
def test_selection_holds_the_rows_of_its_mask(mask: np.ndarray) -> None:
    selection = Selection.of(mask)
    wanted = {i for i, inside in enumerate(mask.tolist()) if inside}
    assert members(selection) == set(selection.ids().tolist()) == wanted
    assert selection.count == len(wanted)
    np.testing.assert_array_equal(selection.mask(), mask)
    assert Selection.of_ids(selection.ids(), len(mask)) == selection


@given(PAIRS)
def test_selection_and_or_not_are_those_of_sets(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = map(Selection.of, pair)
    assert members(a & b) == members(a) & members(b)
    assert members(a | b) == members(a) | members(b)
    assert members(~a) == set(range(a.rows)) - members(a)
    assert ~~a == a and hash(~~a) == hash(a)
    assert (a == b) == (members(a) == members(b))


@given(MASKS, st.data())
def test_selection_slice_is_that_of_its_mask(mask: np.ndarray, data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(mask)))
    start = data.draw(st.integers(0, stop))
    assert Selection.of(mask).slice(start, stop) == Selection.of(mask[start:stop])


@given(MASKS, st.integers(0, 20), st.booleans())
def test_selection_extended_keeps_its_rows(mask: np.ndarray, more: int, inside: bool) -> None:
    longer = Selection.of(mask).extended(len(mask) + more, inside)
    np.testing.assert_array_equal(longer.mask(), np.concatenate([mask, np.full(more, inside)]))


@given(MASKS)
def test_selection_bits_are_what_faiss_reads(mask: np.ndarray) -> None:
    selection = Selection.of(mask)
    bits = np.ascontiguousarray(selection.bits)
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    assert [selector.is_member(i) for i in range(len(mask) + 20)] == mask.tolist() + [False] * 20


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 64])
def test_selection_every_and_none_are_opposites(rows: int) -> None:
    assert members(Selection.every(rows)) == set(range(rows))
    assert Selection.every(rows).count == rows
    assert ~Selection.every(rows) == Selection.none(rows)
    assert Selection.none(rows).count == 0


def test_selection_cannot_be_changed() -> None:
    bits = np.array([255], np.uint8)
    selection = Selection(bits, 3)
    assert selection.bits.tolist() == [7] and selection.count == 3  # rows that do not exist are out
    bits[0] = 0
    assert selection.count == 3 and 0 in selection
    with pytest.raises(ValueError, match="read-only"):
        selection.bits[0] = 0


def test_selection_refuses_what_does_not_fit() -> None:
    with pytest.raises(QueryError, match="9 rows needs a bit for each; got 1 bytes"):
        Selection(np.zeros(1, np.uint8), 9)
    with pytest.raises(QueryError, match="ids run from 0 to 4; got 5"):
        Selection.of_ids(np.array([1, 5]), 5)
    with pytest.raises(QueryError, match="ids run from 0 to 4; got -1"):
        Selection.of_ids(np.array([-1]), 5)
    with pytest.raises(QueryError, match="there are no rows; got 0"):
        Selection.of_ids(np.array([0]), 0)
    with pytest.raises(QueryError, match="a selection of 5 rows meets another; got one of 6"):
        _ = Selection.every(5) & Selection.every(6)
    with pytest.raises(QueryError, match="cannot shrink; got 4 rows"):
        Selection.every(5).extended(4)
    with pytest.raises(QueryError, match="no such range of 5 rows; got 2 to 6"):
        Selection.every(5).slice(2, 6)
