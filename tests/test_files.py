"""Files that survive a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.errors import BuildError
from simat.files import atomic, cache_folder, file_state, locked, remove_leftovers, sha256_file, sha256_text, write_text


@given(st.text())
def test_sha256_of_a_text_is_that_of_its_utf8_bytes(text: str) -> None:
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        assert sha256_text(text) == hashlib.sha256(text.encode()).hexdigest()


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_the_state_of_a_file_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert file_state(path) is None
    states = []
    for text in ("old", "new", "newer"):
        write_text(path, text)
        states.append(file_state(path))
    assert file_state(path) == states[-1]
    assert len({*states, None}) == 4


def test_atomic_replaces_the_file_on_success(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_atomic_leaves_the_file_alone_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_atomic_that_is_killed_leaves_the_old_file_and_a_leftover(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from simat.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -9
    assert path.read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2
    remove_leftovers(tmp_path)
    assert [*tmp_path.iterdir()] == [path]


def test_remove_leftovers_takes_nothing_else(tmp_path: Path) -> None:
    for name in (".hidden", "x.tmp", ".lock", ".part.1234.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".lock", "x.tmp"]


@pytest.mark.parametrize("text", ["", "dog -> cat\n", "ä → 名前"])
def test_write_text_writes_utf8(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "x", text)
    assert (tmp_path / "x").read_bytes() == text.encode()


def test_locked_refuses_a_second_holder_and_lets_go_at_the_end(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BuildError, match="another process is building here"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_locked_is_freed_by_the_death_of_its_holder(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from simat.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BuildError, match="wait for it or stop it"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass


def test_cache_folder_is_where_the_environment_says(own_cache: Path) -> None:
    assert cache_folder("a", "b") == own_cache / "a" / "b"
    assert (own_cache / "a" / "b").is_dir()


def test_cache_folder_is_the_users_own_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMAT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "simat"
    assert os.access(tmp_path / "simat", os.W_OK)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_locked_says_what_to_do_about_a_full_disk(tmp_path: Path, number: int) -> None:
    message = rf"cannot write any more: {os.strerror(number)}; got .*; make room, and give the same command again"
    with pytest.raises(BuildError, match=message), locked(tmp_path):
        raise OSError(number, "whatever a library says")


def test_locked_lets_other_errors_of_the_system_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path):
        (tmp_path / "nothing").read_bytes()


def test_locked_knows_a_full_disk_by_what_the_kernel_and_pyarrow_say(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    full = tmp_path / "full"
    for write in (lambda: full.write_text("x"), lambda: pq.write_table(pa.table({"x": [1]}), full)):
        full.symlink_to("/dev/full")  # pyarrow deletes what it cannot write
        with pytest.raises(BuildError, match="No space left on device"), locked(tmp_path):
            write()
        full.unlink(missing_ok=True)
