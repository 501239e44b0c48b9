"""Records of JSON arrays: the streamed ones are the loaded ones, and every damage is one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.visual_genome import stream
from data.visual_genome.stream import stream_records

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
_RECORDS = st.lists(st.dictionaries(st.text(), _VALUES, max_size=4), max_size=5)
SOME = [{"image_id": 1, "name": "caffè", "x": 12}, {"image_id": 2, "list": [1.5, "]", {}]}]


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stream, "WINDOW", 5)
    return 5


def written(folder: Path, data: Any, **options: Any) -> Path:
    path = folder / "relationships.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data, **options).encode())
    return path


def failure(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        list(stream_records(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_RECORDS, st.booleans(), st.sampled_from((None, 2)), st.integers(1, 40))
def test_stream_gives_what_loading_the_whole_file_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Any, ascii_only: bool, indent: int | None, window: int
) -> None:
    monkeypatch.setattr(stream, "WINDOW", window)
    text = json.dumps(records, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    assert list(stream_records(written(tmp_path, text))) == json.loads(text)


@pytest.mark.usefixtures("small_window")
def test_stream_says_of_every_cut_that_the_file_is_cut_off(tmp_path: Path) -> None:
    whole = json.dumps(SOME, ensure_ascii=False).encode()
    assert list(stream_records(written(tmp_path, whole))) == SOME
    for length in range(1, len(whole)):
        line = failure(written(tmp_path, whole[:length]))
        in_a_character = whole[:length].decode("utf-8", "ignore").encode() != whole[:length]
        assert ("no UTF-8 text" if in_a_character else "cut off or damaged at its end, in or after record") in line
        if not in_a_character:
            assert f"at byte {length}" in line


def test_stream_names_the_record_and_the_byte_of_damage(tmp_path: Path, small_window: int) -> None:
    good = '{"name": "caffè"}'
    for spaces in (0, 100):
        before = f"[{good}, {good}, " + " " * spaces
        byte = len(f'{before}{{"x": '.encode())
        line = failure(written(tmp_path, (before + '{"x": oh dear}, ' + good * 20 + "]").encode()))
        assert f"in record 3 near byte {byte}" in line


@pytest.mark.usefixtures("small_window")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"images": []}', "is no JSON array, in record 1 near byte 0"),
        (b"[1, 2]", "is no array of objects, in record 1 .*got int"),
        (b'[{"a": 1} {"a": 2}]', "is damaged, in record 2"),
        (b'[{"a": 1}] {"a": 2}', "goes on after its end"),
        (b"", "cut off or damaged at its end, in or after record 1, at byte 0"),
        (b"   ", "cut off or damaged at its end"),
        (b'[{"a": "\xff\xfe"}]', "is no UTF-8 text"),
        (b'[{"a": "\0"}' + b" " * 50 + b"]", "is damaged: Invalid control character"),
        (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "holds a value that no annotation has"),
        (b'[{"a": ' + b"9" * 10_000 + b"}]", "holds a value that no annotation has"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_stream_refuses_what_is_no_array_of_objects(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason):
        list(stream_records(written(tmp_path, data)))


def test_stream_stops_at_damage_without_reading_on(tmp_path: Path, small_window: int) -> None:
    read: list[int] = []
    with pytest.raises(CorpusError, match="is damaged"):
        list(stream_records(written(tmp_path, b'[{"a" oops}' + b" " * 10_000), read.append))
    assert sum(read) < 100


def test_stream_gives_up_on_a_record_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_window: int
) -> None:
    monkeypatch.setattr(stream, "MAX_RECORD", 100)
    read: list[int] = []
    with pytest.raises(CorpusError, match="no end of a record within 100 characters, in record 2 near byte 4"):
        list(stream_records(written(tmp_path, b'[{},{"a": "' + b"x" * 10_000), read.append))
    assert sum(read) < 400
    longest = [{"a": "x" * 80}]
    assert list(stream_records(written(tmp_path, longest))) == longest


def test_stream_skips_a_byte_order_mark(tmp_path: Path) -> None:
    assert list(stream_records(written(tmp_path, "\ufeff[{}]".encode()))) == [{}]


def test_stream_tells_how_many_bytes_it_read(tmp_path: Path, small_window: int) -> None:
    read: list[int] = []
    path = written(tmp_path, SOME)
    list(stream_records(path, read.append))
    assert sum(read) == path.stat().st_size
    assert max(read) < 100


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["missing", "folder"])
def test_stream_refuses_what_it_cannot_read(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "objects.json")
    with pytest.raises(CorpusError, match=r"cannot read .*objects.json.*unpack"):
        list(stream_records(tmp_path / "objects.json"))


def test_stream_holds_a_window_and_not_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(stream, "WINDOW", 10_000)
    path = written(tmp_path, [{"text": "x" * 1000} for _ in range(3000)])
    tracemalloc.start()
    count = sum(1 for _ in stream_records(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000
    assert peak < path.stat().st_size / 20
