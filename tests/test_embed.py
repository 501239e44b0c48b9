"""Embedding: one vector per file in order, copies embedded once, and any interruption forgotten."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from building import CountingEncoder, Interrupted, Recorder, contents, save_blotches, without_processes
from helpers import ColourEncoder, PixelColourEncoder, blotches
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from indexing.embed import Embedded, Embedder, SeenFiles
from indexing.scan import write_scan
from simat.embeddings import PartReader, read_rejected
from simat.errors import EncoderError
from simat.types import Encoder
from simat.vectors import to_half


def embed(root: Path, folder: Path, encoder: Encoder, part_size: int = 7, recorder: Recorder | None = None) -> Embedded:
    folder.mkdir(exist_ok=True)
    scan = folder.parent / "scan.parquet"
    files = write_scan(root, scan)
    return Embedder(folder, root, encoder, part_size).run(scan, files, 1, recorder or Recorder.new())


def rows_of(folder: Path, done: Embedded) -> tuple[list[str], np.ndarray]:
    reader = PartReader(folder, done.parts)
    ids = np.arange(done.rows)
    return [row.path for row in reader.rows(ids)], reader.vectors(ids)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen pictures, four copies of two of them, four files that are none: 23 files."""
    root = save_blotches(tmp_path_factory.mktemp("mixed") / "photos", 15)
    for copy, original in (("0001b", "0001"), ("0012b", "0001"), ("0012c", "0012"), ("zz", "0003")):
        shutil.copy(root / f"{original}.png", root / f"{copy}.png")
    for name in ("0002x", "0004x", "0009x", "yy"):
        (root / f"{name}.png").write_bytes(name.encode())
    return root


@pytest.mark.parametrize("encoder", [PixelColourEncoder(), ColourEncoder()])
def test_every_readable_file_has_its_vector_hash_and_size(tmp_path: Path, mixed: Path, encoder: Encoder) -> None:
    done = embed(mixed, tmp_path / "set", encoder)
    paths, vectors = rows_of(tmp_path / "set", done)
    bad = {"0002x.png", "0004x.png", "0009x.png", "yy.png"}
    assert paths == [name for name in sorted(path.name for path in mixed.iterdir()) if name not in bad]
    expected = np.concatenate([encoder.encode_images([Image.open(mixed / path)]) for path in paths])
    assert np.array_equal(vectors, to_half(expected).astype(np.float32))
    for row in PartReader(tmp_path / "set", done.parts).rows(np.arange(done.rows)):
        assert row.sha256 == hashlib.sha256((mixed / row.path).read_bytes()).hexdigest()
        assert (row.width, row.height) == (48, 32)
    assert (done.rows, done.duplicates, done.rejected) == (19, 4, 4)


@settings(max_examples=8)
@given(part_size=st.integers(1, 30))
def test_copies_are_embedded_once_within_and_across_parts(
    tmp_path_factory: pytest.TempPathFactory, mixed: Path, part_size: int
) -> None:
    encoder = CountingEncoder()
    with without_processes():
        done = embed(mixed, tmp_path_factory.mktemp("set") / "set", encoder, part_size)
    assert (encoder.encoded, done.rows, done.duplicates) == (15, 19, 4)


def test_rejected_files_are_listed_with_their_reason_beside_their_part(tmp_path: Path, mixed: Path) -> None:
    embed(mixed, tmp_path / "set", PixelColourEncoder(), 7)
    listed = [item for path in sorted((tmp_path / "set").glob("rejected-*")) for item in read_rejected(path)]
    assert [item.path for item in listed] == ["0002x.png", "0004x.png", "0009x.png", "yy.png"]
    assert all(item.reason.startswith("not an image in a format we read") for item in listed)


def test_a_part_of_nothing_readable_is_an_empty_part(tmp_path: Path) -> None:
    root = save_blotches(tmp_path / "photos", 6)
    for name in ("0002", "0003"):
        (root / f"{name}.png").write_bytes(b"bad")
    done = embed(root, tmp_path / "set", PixelColourEncoder(), 2)
    assert [entry.rows for entry in done.parts] == [2, 0, 2]
    paths, vectors = rows_of(tmp_path / "set", done)
    assert paths == ["0000.png", "0001.png", "0004.png", "0005.png"]
    expected = PixelColourEncoder().encode_images([blotches(seed) for seed in (0, 1, 4, 5)])
    assert np.array_equal(vectors, to_half(expected).astype(np.float32))


@settings(max_examples=8)
@given(limit=st.integers(0, 14), part_size=st.integers(1, 9), keep_rejected=st.booleans())
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, mixed: Path, limit: int, part_size: int, keep_rejected: bool
) -> None:
    folder = tmp_path_factory.mktemp("sets")
    with without_processes():
        whole = embed(mixed, folder / "whole", PixelColourEncoder(), part_size)
    with without_processes(), pytest.raises(Interrupted):
        embed(mixed, folder / "broken", CountingEncoder(limit), part_size)
    parts = sorted((folder / "broken").glob("part-*"))
    if parts and keep_rejected:  # killed between a part's rejected list and the part
        parts[-1].unlink()
    (folder / "broken" / ".part-000009.parquet.1.tmp").write_bytes(b"half a part")
    encoder = CountingEncoder()
    with without_processes():
        resumed = embed(mixed, folder / "broken", encoder, part_size)
    assert resumed == whole
    assert contents(folder / "broken") == contents(folder / "whole")
    assert encoder.encoded <= 15


def test_a_resumed_run_embeds_nothing_of_the_finished_parts(tmp_path: Path, mixed: Path) -> None:
    with pytest.raises(Interrupted):
        embed(mixed, tmp_path / "set", CountingEncoder(9), 7)
    finished = len(list((tmp_path / "set").glob("part-*")))
    assert finished == 1
    encoder, recorder = CountingEncoder(), Recorder.new()
    embed(mixed, tmp_path / "set", encoder, 7, recorder)
    assert encoder.encoded == 10  # 0000 to 0004 were in the finished part
    assert recorder.notes == ["resuming after 1 finished parts (6 images)"]
    assert recorder.advanced["embed"] == 23


def test_progress_counts_every_file_once(tmp_path: Path, mixed: Path) -> None:
    recorder = Recorder.new()
    embed(mixed, tmp_path / "set", PixelColourEncoder(), 5, recorder)
    assert recorder.stages == [("embed", 23, "images")]
    assert recorder.advanced == {"embed": 23}


@pytest.mark.parametrize("spoil", [lambda v: v * np.nan, lambda v: v[:, :-1], lambda v: v[:-1]])
def test_vectors_that_are_none_are_refused(tmp_path: Path, mixed: Path, spoil: object) -> None:
    class Spoiled(PixelColourEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return spoil(super().encode_pixels(pixels))  # type: ignore[operator]

    with pytest.raises(EncoderError, match="returned no finite vectors of its dimension"):
        embed(mixed, tmp_path / "set", Spoiled())


@given(shas=st.lists(st.integers(0, 9).map(lambda i: f"{i:064x}"), max_size=30))
def test_seen_files_gives_the_first_id_of_every_hash(tmp_path_factory: pytest.TempPathFactory, shas: list[str]) -> None:
    path = tmp_path_factory.mktemp("seen") / "seen.sqlite"
    seen, known = SeenFiles(path), {}
    assert [seen.first(sha, id) for id, sha in enumerate(shas)] == [known.setdefault(s, i) for i, s in enumerate(shas)]
    seen.close()
    assert not path.exists()


def test_copies_of_earlier_parts_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = save_blotches(tmp_path / "photos", 8)
    for seed in range(8):
        shutil.copy(root / f"{seed:04}.png", root / f"copy{7 - seed}.png")
    asked: list[list[int]] = []
    vectors = PartReader.vectors

    def watched(reader: PartReader, ids: np.ndarray) -> np.ndarray:
        asked.append(ids.tolist())
        return vectors(reader, ids)

    monkeypatch.setattr(PartReader, "vectors", watched)
    done = embed(root, tmp_path / "set", PixelColourEncoder(), 8)
    assert asked == [[7, 6, 5, 4, 3, 2, 1, 0]]  # nothing for the first part, one question for the second
    _, found = rows_of(tmp_path / "set", done)
    assert np.array_equal(found[8:], found[:8][::-1])
