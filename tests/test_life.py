"""The life of an index after its build, in any order of events: what is in it is what a plain list would hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from living import ONE, found, images, live_ids, noise, vector_index

from indexing.compact import compact_index
from indexing.merge import merge_indexes
from indexing.remove import remove_images
from simat.opened import open_index
from simat.types import Hits
from simat.vectors import merge_hits

EVENTS = st.lists(st.just("compact") | st.sets(st.integers(0, 39), min_size=1, max_size=12), min_size=1, max_size=4)


def exact(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> Hits:
    """The k best by brute force."""
    return merge_hits(ids[None], (vectors @ query)[None], k)


@settings(max_examples=12)
@given(EVENTS, st.sampled_from(["Flat", "IVF2,Flat", "HNSW8"]))
def test_any_run_of_removals_and_compactions_leaves_what_a_list_would(events: list, factory: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        index = vector_index(Path(name) / "index", noise(40), factory=factory)
        left = dict(images(index))
        generation = 0
        for event in events:
            if event == "compact":
                done = compact_index(index, ONE)
                assert done.reasons or len(left) == len(open_index(index).embeddings)
                left = {new: left[old] for new, old in enumerate(sorted(left))} if done.reasons else left
                generation += bool(done.reasons or done.retrained)
            else:
                chosen = sorted(event & left.keys())
                if len(chosen) == len(left):
                    continue
                ids = np.array(sorted(i for i in event if i < len(open_index(index).embeddings)), np.int64)
                assert remove_images(index, ids=ids).count == len(chosen)
                left = {id: image for id, image in left.items() if id not in event}
                generation += bool(chosen)
            assert images(index, check=False) == left
            assert open_index(index).manifest.generation == generation
        assert images(index) == left


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8", "IVF4,SQ8"])
def test_searches_find_what_is_left_and_nothing_else(tmp_path: Path, factory: str) -> None:
    vectors = noise(300, seed=1)
    index = vector_index(tmp_path / "index", vectors, 64, 128, factory=factory)
    gone = np.arange(0, 300, 3)
    remove_images(index, ids=gone)
    for compacted in (False, True):
        if compacted:
            compact_index(index, ONE)
        opened = open_index(index)
        ids = live_ids(opened)
        stored = opened.embeddings.vectors(ids)
        for query in noise(5, seed=2):
            hits, wanted = opened.searcher.search(query[None], 5), exact(stored, ids, query, 5)
            known = np.isin(hits.ids[0], ids)
            assert known.all()
            if factory == "Flat":
                assert np.array_equal(hits.ids, wanted.ids)
            assert np.isin(wanted.ids[0], hits.ids[0]).sum() >= 3
    assert set(found(index)) == set(range(200))


def test_compaction_and_removal_change_no_answer_but_its_ids(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(100, seed=3), 16, 40)
    remove_images(index, ids=np.arange(10, 60))
    before, query = open_index(index), noise(1, seed=4)
    before.embeddings.hold()
    old = before.searcher.search(query, 20)
    compact_index(index, ONE)
    after = open_index(index)
    new = after.searcher.search(query, 20)
    paths = [[row.path for row in one.rows(hits.ids[0])] for one, hits in ((before, old), (after, new))]
    assert paths[0] == paths[1]
    assert np.array_equal(old.scores, new.scores)


def test_merging_an_index_with_itself_compacts_it(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    remove_images(index, ids=np.arange(0, 50, 7))
    merge_indexes([index, index], tmp_path / "out", ONE)
    before = images(index)
    assert [*images(tmp_path / "out").values()] == [*before.values()]
