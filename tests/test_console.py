"""Progress for programs and for people, sizes, and errors of one line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from simat.cli import console
from simat.errors import QueryError
from simat.files import human
from simat.progress import Progress

FIELDS = {"stage", "done", "total", "unit", "rate", "seconds_left"}


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def reported(capsys: Any) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_json_progress_has_stable_fields_with_rate_and_time_left(clock: Clock, capsys: Any) -> None:
    progress = console.JsonProgress()
    progress.start("embed", 100, "images")
    clock.now += 4
    progress.advance(20)
    lines = reported(capsys)
    assert [set(line) for line in lines] == [FIELDS, FIELDS]
    assert lines[0] == {
        "stage": "embed", "done": 0, "total": 100, "unit": "images", "rate": 0.0, "seconds_left": None
    }  # fmt: skip
    assert lines[1] == {
        "stage": "embed", "done": 20, "total": 100, "unit": "images", "rate": 5.0, "seconds_left": 16.0
    }  # fmt: skip


def test_json_progress_says_a_line_a_second_and_the_end(clock: Clock, capsys: Any) -> None:
    progress = console.JsonProgress()
    progress.start("embed", 1000, "images")
    for _ in range(1000):
        clock.now += 0.01
        progress.advance(1)
    lines = reported(capsys)
    assert 10 <= len(lines) <= 12
    assert lines[-1]["done"] == lines[-1]["total"] == 1000
    assert lines[-1]["seconds_left"] == 0


def test_json_progress_of_unknown_length_knows_no_time_left(clock: Clock, capsys: Any) -> None:
    progress = console.JsonProgress()
    progress.start("scan", None, "files")
    clock.now += 2
    progress.advance(10)
    assert [(line["total"], line["seconds_left"]) for line in reported(capsys)] == [(None, None)] * 2


@given(counts=st.lists(st.integers(1, 50), max_size=20), seconds=st.floats(0.01, 3))
def test_json_progress_never_goes_backwards(counts: list[int], seconds: float) -> None:
    clock, out = Clock(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "time", clock)
        patch.setattr(sys, "stderr", out)
        progress = console.JsonProgress()
        progress.start("embed", sum(counts), "images")
        for count in counts:
            clock.now += seconds
            progress.advance(count)
    done = [json.loads(line)["done"] for line in out.getvalue().splitlines()]
    assert done == sorted(done)
    assert done[-1] == sum(counts)


def test_json_progress_passes_notes_on(capsys: Any) -> None:
    console.JsonProgress().note("resuming")
    assert reported(capsys) == [{"note": "resuming"}]


def test_progress_is_json_where_there_is_no_terminal(capsys: Any) -> None:
    with console.progress() as progress:
        assert isinstance(progress, console.JsonProgress)
        assert isinstance(progress, Progress)


def test_progress_is_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress() as progress:
        assert isinstance(progress, console.TerminalProgress)
        progress.start("scan", None, "files")
        progress.start("embed", 40, "images")
        progress.advance(40)
        progress.note("a note")
    shown = screen.getvalue()
    assert all(word in shown for word in ("scan", "embed", "40/40", "images", "left", "a note"))


def test_terminal_progress_shows_the_rate() -> None:
    now = [0.0]
    screen = io.StringIO()
    bars = Bars(
        TextColumn("{task.description} {task.completed:.0f} {task.fields[rate]}"),
        console=Console(file=screen, width=80),
        get_time=lambda: now[0],
        auto_refresh=False,
    )
    progress = console.TerminalProgress(bars)
    with bars:
        progress.start("embed", 100, "images")
        for _ in range(4):
            now[0] += 2
            progress.advance(10)
    assert "embed 40 5 images/s" in screen.getvalue()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (5 * 2**42, "20.0 TiB")],
)
def test_human_sizes(size: int, text: str) -> None:
    assert human(size) == text


def failure(error: BaseException, capsys: Any) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as end, console.one_line_errors():
        raise error
    out, err = capsys.readouterr()
    assert out == ""
    return end.value.code, err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (QueryError("no such thing", got="x", remedy="do y"), "error: no such thing; got x; do y\n"),
        (QueryError("two\nlines", got="\x1b[31mred"), "error: two\\nlines; got \\x1b[31mred\n"),
        (PermissionError(13, "Permission denied", "/a/b"), "error: Permission denied: /a/b\n"),
        (FileNotFoundError(2, "No such file or directory", "/a\nb"), "error: No such file or directory: /a\\nb\n"),
        (OSError("no number"), "error: no number\n"),
    ],
)
def test_errors_are_one_line_and_code_2(capsys: Any, error: BaseException, line: str) -> None:
    assert failure(error, capsys) == (2, line)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
def test_the_interrupt_key_is_code_130_and_says_how_to_go_on(capsys: Any, error: BaseException) -> None:
    assert failure(error, capsys) == (130, "interrupted; the same command goes on where it was\n")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_other_ends_pass_in_silence(capsys: Any, code: int) -> None:
    assert failure(SystemExit(code), capsys) == (code, "")


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), console.one_line_errors():
        _ = 1 / 0


def test_print_json_is_one_line_that_keeps_its_letters(capsys: Any) -> None:
    console.print_json({"path": "größe\n.jpg", "index": Path("/a")})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "größe" in out
    assert json.loads(out) == {"path": "größe\n.jpg", "index": "/a"}
