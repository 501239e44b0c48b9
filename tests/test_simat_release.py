"""Reading a copy of the release: a small one in the same layout, every way to damage it, and the real tensors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import released, small_release

from data.corpus import CorpusError
from data.simat.release import LARGE, MATRIX, Release
from data.simat.tensors import read_heads, read_matrix, read_words, write_tensors

DB, TRIPLETS, TRANSFOS, CAPTIONS = (
    f"simat_db/{name}" for name in ("retrieval_db.tsv", "triplets.csv", "transfos.csv", "captions.txt")
)
Damage = Callable[[str], str]


def swapped(old: str, new: str) -> Damage:
    return lambda text: text.replace(old, new, 1)


def read_everything(release: Release) -> None:
    for name in ("annotations", "regions", "captions", "queries"):
        getattr(release, name)


def test_small_release_is_read_whole(tmp_path: Path) -> None:
    release = Release(small_release(tmp_path))

    assert [r.region_id for r in release.annotations] == [1, 2, 3, 10, 11, 99]
    assert [r.region_id for r in release.regions] == [10, 11, 1, 2, 3]
    assert release.captions == {
        ("cat", "sitting on a", "bed"): "A cat sitting on a bed.",
        ("dog", "sitting on a", "bed"): "A dog sitting on a bed.",
    }
    assert release.matrix_rows == {10: 0, 11: 1, 1: 2, 2: 3, 3: 4}
    assert [(q.query.region.region_id, q.query.target, q.norm2, q.is_test) for q in release.queries] == [
        (1, "cat", 2, True), (2, "cat", 2, False), (10, "dog", 1, False),
    ]  # fmt: skip
    first = release.annotations[0]
    assert (first.subject_attributes, first.object_attributes) == (("brown", "small"), ())
    assert (first.subject_box, first.object_box, first.crop) == ((0, 0, 20, 30), (20, 0, 40, 30), (0, 0, 40, 30))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (DB, lambda text: text[:-4], "retrieval_db.tsv ends in the middle of a line"),
        (DB, swapped("dog", ""), "subj on line 2 of retrieval_db.tsv is empty or lacks a word"),
        (DB, swapped("dog", "x" * 10_000), "subj on line 2 of retrieval_db.tsv is longer than 1,000"),
        (DB, swapped("dog", "d\0g"), "retrieval_db.tsv has NUL bytes"),
        (DB, swapped("0,0,20,30", "0,0,20"), "subj_bbox on line 2 of retrieval_db.tsv is no box"),
        (DB, swapped("0,0,20,30", "20,0,0,30"), "subj_bbox on line 2 of retrieval_db.tsv is no box"),
        (DB, swapped("0,0,20,30", f"0,0,20,{2**40}"), "subj_bbox on line 2 of retrieval_db.tsv is no box"),
        (DB, swapped("0,0,20,30", "0,0,20,x"), "subj_bbox on line 2 of retrieval_db.tsv is no box.*got '0,0,20,x'"),
        (DB, swapped("\n2\t", "\ntwo\t"), "line 3 of retrieval_db.tsv has no whole number.*got 'two'"),
        (DB, swapped("\n2\t", "\n1\t"), "line 3 of retrieval_db.tsv has a region for the second time; got 1"),
        (DB, swapped("region_id\t", "id\t"), "retrieval_db.tsv lacks the columns region_id"),
        (DB, swapped("\n3\t", "\n4\t"), "line 6 of triplets.csv does not fit retrieval_db.tsv, which has nothing"),
        (TRIPLETS, swapped("11,cat", "10,cat"), "line 3 of triplets.csv has a region for the second time"),
        (TRIPLETS, swapped("10,cat", "10,cow"), "line 2 of triplets.csv does not fit retrieval_db.tsv"),
        (TRIPLETS, swapped(",bed,0", ",bed"), "line 2 of triplets.csv is damaged; got 4 fields instead of 5"),
        (CAPTIONS, lambda text: text.splitlines(keepends=True)[0], "got 1 captions for 2 triplets"),
        (CAPTIONS, swapped("A dog sitting on a bed.", ""), "line 2 of captions.txt is empty"),
        (CAPTIONS, swapped("A dog", "A dog" * 2000), "line 2 of captions.txt is longer than 1,000 characters"),
        (TRANSFOS, swapped("subj,dog", "verb,dog"), "line 2 of transfos.csv names no region, field or domain"),
        (TRANSFOS, swapped("True", "Maybe"), "line 2 of transfos.csv names no region, field or domain"),
        (TRANSFOS, swapped("subj,dog", "subj,cow"), "line 2 of transfos.csv changes a word that the region does not"),
        (TRANSFOS, lambda text: text[: len(text) // 2], "transfos.csv ends in the middle of a line"),
    ],
)  # fmt: skip
def test_damaged_release_is_refused_with_file_and_line(tmp_path: Path, name: str, damage: Damage, message: str) -> None:
    folder = small_release(tmp_path)
    (folder / name).write_text(damage((folder / name).read_text()))

    with pytest.raises(CorpusError, match=message):
        read_everything(Release(folder))


def test_missing_small_files_are_named(tmp_path: Path) -> None:
    folder = small_release(tmp_path)
    (folder / DB).unlink()
    (folder / CAPTIONS).unlink()

    with pytest.raises(CorpusError, match=r"without simat_db/retrieval_db\.tsv, simat_db/captions\.txt; give the"):
        Release(folder)


def test_missing_large_files_say_what_works_without_them(tmp_path: Path) -> None:
    release = Release(small_release(tmp_path))

    assert release.missing() == LARGE
    with pytest.raises(CorpusError, match=r"lacks simat_db/oscar_similarity_matrix\.pt.*but scores by OSCAR works"):
        release.matrix()
    with pytest.raises(CorpusError, match=r"lacks data/simat_words_clip\.ptd.*encode the words instead"):
        release.words()
    assert release.heads() == {}


def test_matrix_must_fit_regions_and_captions(tmp_path: Path) -> None:
    release = Release(small_release(tmp_path))
    torch.save(torch.full((5, 2), 0.5, dtype=torch.float16), release.folder / MATRIX)
    assert release.matrix().tolist() == [[0.5, 0.5]] * 5

    torch.save(torch.zeros(5, 3), release.folder / MATRIX)
    with pytest.raises(
        CorpusError, match=r"oscar_similarity_matrix\.pt does not fit.*got \(5, 3\) instead of \(5, 2\)"
    ):
        release.matrix()


class Evil:
    """Runs a command where it is unpickled freely."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._target}",)


@pytest.mark.parametrize("read", [read_words, read_heads, read_matrix])
def test_pickles_run_nothing(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "it ran"
    torch.save({"img_head": Evil(target), "txt_head": 1}, path)
    with pytest.raises(CorpusError, match=r"evil\.pt is damaged, or holds more than tensors"):
        read(path)

    path.write_bytes(pickle.dumps(Evil(target), protocol=2))
    with pytest.raises(CorpusError, match=r"evil\.pt is damaged, or holds more than tensors"):
        read(path)
    assert not target.exists()


@pytest.mark.parametrize("read", [read_words, read_heads, read_matrix])
def test_tensor_files_of_another_content_are_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    for number, content in enumerate([{"a": 1}, 3.0, [("boy", torch.zeros(2)), ("girl", torch.zeros(3))]]):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(CorpusError, match=rf"{number}\.pt (holds|does not hold)"):
            read(path)
    with pytest.raises(CorpusError, match="is missing"):
        read(tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "2.pt").read_bytes()[:300])
    with pytest.raises(CorpusError, match="is damaged"):
        read(tmp_path / "cut.pt")


def test_matrix_is_read_from_numpy_files_without_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[0.25, 1.0]]))
    np.save(tmp_path / "objects.npy", np.array([[Evil(tmp_path / "it ran")]]), allow_pickle=True)

    assert read_matrix(tmp_path / "m.npy").tolist() == [[0.25, 1.0]]
    with pytest.raises(CorpusError, match=r"cannot read the matrix objects\.npy"):
        read_matrix(tmp_path / "objects.npy")
    assert not (tmp_path / "it ran").exists()


def test_released_words_are_real_clip_vectors() -> None:
    words = Release(released()).words()
    unit = {
        word: vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64)) for word, vector in words.items()
    }
    vectors = np.stack([*unit.values()])
    cosines = (vectors @ vectors.T)[np.triu_indices(131, 1)]

    assert {vector.shape for vector in words.values()} == {(512,)}
    assert len(cosines) == 8_515
    assert cosines.mean() == pytest.approx(0.7970, abs=5e-5)
    assert np.linalg.norm(unit["woman"] - unit["man"]) == pytest.approx(0.4526, abs=5e-5)


def test_released_heads_survive_as_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    heads = Release(released()).heads()["head_clip_t=0.1"]
    write_tensors(tmp_path / "h.safetensors", heads)
    loaded = load_file(tmp_path / "h.safetensors")

    assert loaded.keys() == {"img_head.weight", "img_head.bias", "txt_head.weight", "txt_head.bias"}
    assert all((loaded[name] == tensor).all() for name, tensor in heads.items())
    distances = [np.linalg.norm(loaded[f"{name}_head.weight"] - np.eye(512)) for name in ("img", "txt")]
    assert distances == pytest.approx([27.2286, 25.8610], abs=5e-5)
    assert np.linalg.norm(loaded["img_head.bias"]) == pytest.approx(0.5644, abs=5e-5)
