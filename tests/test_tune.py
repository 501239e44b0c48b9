"""``simat index tune``: what it measures, what it chooses, what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Recorder, here, vector_set
from helpers import unit_noise
from PIL import Image

from indexing import tune as module
from indexing.config import BuildConfig
from indexing.recall import exact_neighbours
from indexing.shards import ShardBuilder
from indexing.tune import Setting, Tuned, tune_index
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError, QueryError
from simat.manifest import IndexManifest, read_index_manifest, write_manifest
from simat.selection import Selection
from simat.tombstones import write_removed
from simat.vectors import to_half, unit_rows

ROWS, DIM = 2000, 16
ONE = RuntimeOptions(threads=1)


def indexed(folder: Path, factory: str, rows: int = ROWS) -> Path:
    """An index over vectors in clouds, searched with the least effort."""
    rng = np.random.default_rng(5)
    vectors = unit_rows(unit_noise(1, 50, DIM)[rng.integers(0, 50, rows)] + 0.2 * rng.normal(size=(rows, DIM)))
    embeddings = vector_set(folder / "embeddings", vectors)
    (folder / "shards").mkdir()
    config = BuildConfig("/nowhere", factory=factory, shard_size=1200, target_recall=0.01)  # not tuned yet
    built = ShardBuilder(folder / "shards", embeddings, config, 1).run(Recorder.new())
    space = embeddings.manifest.space
    manifest = IndexManifest(space, "embeddings", factory, built.entries, rows, config=config.as_dict())
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(autouse=True)
def few_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED", 4)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(tmp_path_factory.mktemp("index"), "IVF16,PQ4x4fs")


def test_tune_looks_at_more_effort_and_more_candidates(index: Path) -> None:
    tuned = tune_index(index, 0.9, 60, ONE)
    by_candidates: dict[int, list[Setting]] = {}
    for setting in tuned.settings:
        by_candidates.setdefault(setting.search["rerank"], []).append(setting)
    assert [*by_candidates] == [8, 32, 128]
    for settings in by_candidates.values():
        assert [s.search["nprobe"] for s in settings] == [1, 2, 4, 8, 16][: len(settings)]
        assert (np.diff([s.recall for s in settings]) > -0.05).all()
    assert max(s.recall for s in by_candidates[128]) > max(s.recall for s in by_candidates[8])
    assert {s.reread for s in by_candidates[8]} == {8 * 10 * DIM * 2}
    assert {s.memory for s in tuned.settings} == {sum(e.bytes for e in read_index_manifest(index).shards)}
    assert all(0 < s.p50_ms <= s.p90_ms for s in tuned.settings)


def test_tune_chooses_the_quickest_that_reaches_the_target(index: Path) -> None:
    tuned = tune_index(index, 0.9, 60, ONE)
    fast = [s for s in tuned.settings if s.recall >= 0.9]
    assert tuned.reached and tuned.chosen.p50_ms == min(s.p50_ms for s in fast)
    assert tuned.recall["queries"] == 30
    assert 0.7 < tuned.recall["recall@10"] <= 1
    assert read_index_manifest(index).search == {}  # nothing is written unless asked


def setting(milliseconds: int, recall: float) -> Setting:
    return Setting({"nprobe": milliseconds}, recall, float(milliseconds), float(milliseconds), 1, 0)


def test_frontier_leaves_out_what_is_slower_and_finds_no_more() -> None:
    points = (setting(1, 0.5), setting(2, 0.4), setting(3, 0.8), setting(4, 0.8), setting(5, 0.9))
    tuned = Tuned(points, points[4], True, {}, {})
    assert tuned.frontier() == [points[0], points[2], points[4]]
    assert [s["frontier"] for s in tuned.document()["settings"]] == [True, False, True, False, True]


def test_a_target_out_of_reach_takes_the_best_recall(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.settings.CANDIDATES", (1,))
    tuned = tune_index(index, 1.0, 60, ONE)
    assert not tuned.reached
    assert tuned.chosen.recall == max(s.recall for s in tuned.settings)


def test_tune_applies_what_it_chose_as_the_next_generation(tmp_path: Path) -> None:
    index = indexed(tmp_path, "IVF16,Flat")
    tuned = tune_index(index, 0.9, 60, ONE, apply=True)
    manifest = read_index_manifest(index)
    assert manifest.generation == 1
    assert (dict(manifest.search), dict(manifest.recall)) == (tuned.chosen.search, tuned.recall)
    assert tune_index(index, 0.9, 60, ONE).now == tuned.chosen.search


def test_tune_measures_against_the_images_that_are_not_removed(tmp_path: Path) -> None:
    index = indexed(tmp_path, "Flat")
    gone = Selection.of(np.arange(ROWS) % 2 == 0)
    entry = write_removed(index, "removed-00001.bits", gone)
    manifest = read_index_manifest(index)
    write_manifest(index, IndexManifest(**{**manifest.__dict__, "removed": entry, "generation": 1}))
    tuned = tune_index(index, 0.95, 60, ONE)
    assert [s.recall for s in tuned.settings] == [1.0]
    assert tuned.recall["recall@10"] == 1.0


def test_exact_neighbours_among_some_rows_are_those_of_a_slow_loop() -> None:
    stored, inside = to_half(unit_noise(4, 60, 8)), np.random.default_rng(0).random(60) < 0.4
    ids = np.flatnonzero(inside)[:5]
    blocks = [stored[:7], stored[7:40], stored[40:]]
    hits = exact_neighbours(stored[ids].astype(np.float32), ids, iter(blocks), 4, Selection.of(inside))
    for row, id in enumerate(ids):
        scores = stored.astype(np.float64) @ stored[id].astype(np.float64)
        scores[~inside] = scores[id] = -np.inf
        assert hits.ids[row].tolist() == np.argsort(-scores)[:4].tolist()


def test_tune_refuses_what_makes_no_sense(index: Path, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"recall must lie in \(0, 1\]; got 1.5"):
        tune_index(index, 1.5)
    with pytest.raises(QueryError, match="at least two queries to tune; got 1"):
        tune_index(index, 0.9, 1)
    with pytest.raises(BuildError, match="too few images to tune on; got 2"):
        tune_index(indexed(tmp_path, "Flat", 2), 0.9)


def test_tune_command_prints_a_table_and_draws(index: Path, tmp_path: Path, capsys: Any) -> None:
    picture = tmp_path / "frontier.png"
    ran = here(capsys, "index", "tune", index, "--recall", "0.9", "--queries", "60", "--plot", picture)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].startswith("  recall@10     p50     p90    memory  re-read  setting")
    assert any("rerank 32" in line for line in lines)
    assert any(line.startswith("chosen: nprobe ") and "on 30 other queries" in line for line in lines)
    assert "the index has: exact; --apply changes that" in ran.out
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG" and drawn.width > 600


def test_tune_command_refuses_a_picture_that_cannot_be_drawn_before_it_measures(
    index: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "tune_index", lambda *_, **__: pytest.fail("measured"))
    ran = here(capsys, "index", "tune", index, "--plot", tmp_path / "no" / "frontier.png")
    assert ran.error == f"no such folder; got {tmp_path / 'no'}"
    monkeypatch.setattr("indexing.tuning_figure.find_spec", lambda name: None)
    assert here(capsys, "index", "tune", index).error.startswith("charts need matplotlib; pip install 'simat[plot]'")


def test_tune_command_gives_json_and_applies(tmp_path: Path, capsys: Any) -> None:
    index = indexed(tmp_path, "IVF16,Flat")
    document = here(capsys, "index", "tune", index, "--queries", "40", "--apply", "--json").json
    assert document["applied"] and document["picture"] == str(index / "tuning.png")
    assert dict(read_index_manifest(index).search) == document["chosen"]["search"]
    assert {"search", "recall", "p50_ms", "p90_ms", "memory", "reread", "frontier"} == set(document["settings"][0])


def test_tune_command_names_what_is_wrong_on_one_line(tmp_path: Path, capsys: Any) -> None:
    ran = here(capsys, "index", "tune", tmp_path / "nothing")
    assert ran.error.startswith("no index here")
