"""What commands share: progress for people and for programs, JSON, tables, one-line errors."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simat.errors import SimatError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

SHOW_AFTER_S = 0.5  # a stage that ends sooner needs no bar
REPORT_EVERY_S = 1.0
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, ensure_ascii=False, default=str))


def console() -> Console:
    """A console on standard output."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[TerminalProgress | JsonProgress]:
    """Bars on a terminal, one JSON line a second elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        yield JsonProgress()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as bars:
        shown = TerminalProgress(bars)
        yield shown
        shown.finish()


def show_log() -> None:
    """Show what the engine logs, such as a preparation that takes seconds: a line of text, or of JSON, on stderr."""

    logger = logging.getLogger("simat")
    if not any(isinstance(handler, Lines) for handler in logger.handlers):
        logger.addHandler(Lines())
    logger.setLevel(logging.INFO)


class Lines(logging.Handler):
    """A line on stderr per record, of text on a terminal and of JSON elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        line = record.getMessage()
        print(line if sys.stderr.isatty() else json.dumps({"note": line}), file=sys.stderr, flush=True)


class TerminalProgress:
    """One bar per stage, with rate and time left."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars, self._task, self._unit = bars, bars.add_task("", visible=False, rate=""), ""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Close the bar of the stage before, open the next."""
        self.finish()
        self._unit = unit
        self._task = self._bars.add_task(stage, total=total, rate=unit)

    def advance(self, count: int) -> None:
        """Move the bar."""
        speed = self._bars.tasks[self._bars.task_ids.index(self._task)].speed
        rate = f"{speed:,.0f} {self._unit}/s" if speed else self._unit
        self._bars.update(self._task, advance=count, rate=rate)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(message, highlight=False, markup=False)

    def finish(self) -> None:
        """Close the bar of the last stage; one of unknown length ends where it is."""
        task = self._bars.tasks[self._bars.task_ids.index(self._task)]
        if task.total is None:
            self._bars.update(self._task, total=task.completed or 1, completed=task.completed or 1)


class JsonProgress:
    """``{"stage", "done", "total", "unit", "rate", "seconds_left"}``, a line a second at most."""

    def __init__(self) -> None:
        self._stage, self._total, self._unit, self._done = "", None, "", 0  # type: tuple[str, int | None, str, int]
        self._started = self._reported = time.monotonic()

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Report the beginning of a stage."""
        self._stage, self._total, self._unit, self._done = stage, total, unit, 0
        self._started = time.monotonic()
        self._report()

    def advance(self, count: int) -> None:
        """Report at most once a second, and at the end."""
        self._done += count
        if self._done == self._total or time.monotonic() - self._reported >= REPORT_EVERY_S:
            self._report()

    def note(self, message: str) -> None:
        """Report a message."""
        self._print({"note": message})

    def _report(self) -> None:
        self._reported = time.monotonic()
        elapsed = self._reported - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        left = (self._total - self._done) / rate if self._total is not None and rate else None
        self._print(
            {
                "stage": self._stage,
                "done": self._done,
                "total": self._total,
                "unit": self._unit,
                "rate": round(rate, 1),
                "seconds_left": None if left is None else round(left, 1),
            }
        )

    def _print(self, record: dict[str, Any]) -> None:
        print(json.dumps(record), file=sys.stderr, flush=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit code 2; nothing else is caught."""
    try:
        yield
    except SimatError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone: `simat search … | head`
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(str(SimatError(f"{error.strerror or error}{where}")))
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # Typer has caught the key already
            _interrupted()
        raise


def _interrupted() -> None:
    print("interrupted; the same command goes on where it was", file=sys.stderr)
    raise SystemExit(INTERRUPTED)


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
