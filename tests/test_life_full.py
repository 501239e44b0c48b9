"""A full disk in the middle of a change: one line with a remedy, nothing lost, and the same command then succeeds."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from building import contents, same_contents, save_blotches, without_processes
from killed import CHANGES
from living import built, images

from indexing.remove import remove_images
from simat.errors import BuildError


@pytest.fixture(autouse=True, scope="module")
def decoded_here() -> Iterator[None]:
    """Without decoder processes: those of the command line's tests are enough."""
    with without_processes():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with tombstones, with its lists trained, and pictures to add."""
    place = tmp_path_factory.mktemp("full")
    built(place / "start", save_blotches(place / "photos", 12), factory="IVF2,Flat", shard_size=100)
    remove_images(place / "start", ids=np.array([0, 7]))
    save_blotches(place / "more", 9, first=50)
    return place


def fresh(place: Path, change: str, name: str) -> Path:
    """What a change begins from."""
    shutil.rmtree(place / name, ignore_errors=True)
    if change != "merge":
        shutil.copytree(place / "start", place / name)
    return place / name


@contextmanager
def full_at(number: int) -> Iterator[None]:
    """A disk that has no room for the ``number``-th file that is written, nor for any after it."""
    written = 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += stat.S_ISREG(os.fstat(descriptor).st_mode)
        if written >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Files that cannot grow beyond so many bytes: writing fails in whoever writes, FAISS and SQLite among them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def nothing_is_lost(place: Path, index: Path, change: str) -> bool:
    """Whether the index is as it was, whole to the last byte, and no half file lies about."""
    assert not [*index.rglob("*.tmp")]
    if change == "merge":
        return not (index / "manifest.json").exists()
    return images(index) == images(place / "start")


@pytest.mark.parametrize("change", ["add", "compact", "merge", "remove"])
def test_a_disk_that_is_full_at_any_file_leaves_the_index_and_the_change_goes_on(place: Path, change: str) -> None:
    whole = fresh(place, change, f"whole {change}")
    CHANGES[change](place, whole)
    for number in range(1, 100):
        index = fresh(place, change, "index")
        try:
            with full_at(number):
                CHANGES[change](place, index)
        except BuildError as error:
            assert str(error) == (
                f"cannot write any more: No space left on device; got {index}; "
                "make room, and give the same command again: it goes on where it was"
            )
            assert nothing_is_lost(place, index, change)
            CHANGES[change](place, index)
            assert same_contents(index, whole)
        else:
            break
    assert number > {"remove": 2}.get(change, 5)
    assert same_contents(index, whole)


@pytest.mark.parametrize("change", ["add", "compact", "merge"])
@pytest.mark.parametrize("size", [100, 1000, 2200, 2600])
def test_a_write_that_fails_leaves_the_index_and_the_change_goes_on(place: Path, change: str, size: int) -> None:
    whole, index = fresh(place, change, "whole"), fresh(place, change, "index")
    CHANGES[change](place, whole)
    assert max(map(len, contents(whole).values())) > size
    with (
        files_up_to(size),
        pytest.raises(BuildError, match=r"cannot write any more: File too large|FAISS cannot|cannot remember") as told,
    ):
        CHANGES[change](place, index)
    assert re.search("free the disk|make room", str(told.value))
    assert nothing_is_lost(place, index, change)
    CHANGES[change](place, index)
    assert same_contents(index, whole)
