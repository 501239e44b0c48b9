"""The batcher: what comes together is answered together, each question gets its own answer or its own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.errors import Busy, QueryError
from simat.server.batching import Batcher, Closed


class Work:
    """Squares numbers; negative ones are errors, zero breaks the whole batch; remembers the batches."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self._gate = gate

    def __call__(self, numbers: list[int]) -> list[int | Exception]:
        self.batches.append(numbers)
        if self._gate is not None and numbers == [1]:
            assert self._gate.wait(10)
        if 0 in numbers:
            raise ZeroDivisionError
        return [QueryError("negative", got=n) if n < 0 else n * n for n in numbers]


@contextmanager
def batcher(work: Work, **options: float) -> Iterator[Batcher[int, int]]:
    opened: Batcher[int, int] = Batcher(work, **options)  # type: ignore[arg-type]
    yield opened
    opened.close()
    opened.join()


def outcome(future: Future[int]) -> object:
    error = future.exception(10)
    return future.result() if error is None else (type(error), getattr(error, "got", None))


def expected(number: int) -> object:
    if number == 0:
        return ZeroDivisionError, None
    return (QueryError, number) if number < 0 else number * number


@given(st.lists(st.integers(-3, 9), max_size=30), st.integers(1, 8))
@settings(max_examples=30)
def test_every_question_gets_the_answer_it_would_get_alone(numbers: list[int], most: int) -> None:
    with batcher(Work(), most=most) as asked:
        futures = [asked.submit(number) for number in numbers]
        assert [outcome(future) for future in futures] == [expected(number) for number in numbers]


def test_questions_that_come_while_it_works_are_answered_together() -> None:
    gate = threading.Event()
    work = Work(gate)
    with batcher(work) as asked:
        first = asked.submit(1)
        until(lambda: work.batches == [[1]])
        others = [asked.submit(number) for number in (2, 3, 4)]
        gate.set()
        wait([first, *others], 10)
    assert work.batches == [[1], [2, 3, 4]]


def test_no_batch_is_greater_than_allowed() -> None:
    gate = threading.Event()
    work = Work(gate)
    with batcher(work, most=2) as asked:
        asked.submit(1)
        until(lambda: work.batches == [[1]])
        futures = [asked.submit(number) for number in (2, 3, 4, 5, 6)]
        gate.set()
        wait(futures, 10)
    assert [len(batch) for batch in work.batches] == [1, 2, 2, 1]


def test_a_single_client_never_waits_for_others() -> None:
    with batcher(Work(), window=5.0) as asked:
        started = time.monotonic()
        for number in range(1, 6):
            assert asked.submit(number).result(10) == number * number
    assert time.monotonic() - started < 4


def test_as_many_as_came_last_are_waited_for_within_the_window() -> None:
    gate = threading.Event()
    work = Work(gate)
    with batcher(work, window=5.0) as asked:
        first = asked.submit(1)
        until(lambda: work.batches == [[1]])
        futures = [first, asked.submit(2), asked.submit(3)]
        gate.set()
        wait(futures, 10)
        again = [asked.submit(4)]
        time.sleep(0.1)
        again.append(asked.submit(5))
        wait(again, 10)
    assert work.batches == [[1], [2, 3], [4, 5]]


def test_a_question_that_is_taken_back_is_not_worked_on() -> None:
    gate = threading.Event()
    work = Work(gate)
    with batcher(work) as asked:
        first = asked.submit(1)
        until(lambda: work.batches == [[1]])
        unwanted, wanted = asked.submit(2), asked.submit(3)
        assert unwanted.cancel()
        gate.set()
        assert [first.result(10), wanted.result(10)] == [1, 9]
    assert work.batches == [[1], [3]]


def test_too_many_waiting_questions_are_refused() -> None:
    gate = threading.Event()
    work = Work(gate)
    with batcher(work, waiting=2) as asked:
        first = asked.submit(1)
        until(lambda: work.batches == [[1]])
        asked.submit(2), asked.submit(3)
        assert asked.waiting == 2
        with pytest.raises(Busy, match="too many queries are waiting; got 2; try again"):
            asked.submit(4)
        gate.set()
        first.result(10)


def test_closing_answers_what_was_handed_in_and_takes_no_more() -> None:
    gate = threading.Event()
    work = Work(gate)
    asked: Batcher[int, int] = Batcher(work)
    futures = [asked.submit(1)]
    until(lambda: work.batches == [[1]])
    futures += [asked.submit(2), asked.submit(3)]
    asked.close()
    asked.close()
    with pytest.raises(Closed):
        asked.submit(4)
    gate.set()
    asked.join()
    assert [future.result(0) for future in futures] == [1, 4, 9]


def test_batches_are_counted() -> None:
    sizes: list[int] = []
    asked: Batcher[int, int] = Batcher(Work(), on_batch=sizes.append)
    asked.submit(3).result(10)
    asked.close()
    asked.join()
    assert sizes == [1]


def until(true: object, seconds: float = 10) -> None:
    """Wait until something is so."""
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)
