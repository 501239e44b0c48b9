from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import blotches
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simat.errors import Busy, Cancelled, NotFound, QueryError, SimatError, StorageError
from simat.server import events, jobs
from simat.server.events import Event, Events
from simat.server.job import Job, State
from simat.server.jobs import Jobs
from simat.server.keeping import Kept, load, save
from simat.types import Answer, Cancel, OnStep, Result, Step

ANSWER = Answer((Result(0.5, image=blotches(1)),), "made", {"total": 1.0}, {"seed": 7})


class Gate:
    """Work that goes on when it is told to."""

    def __init__(self, steps: int = 3) -> None:
        self.begun, self.open, self._steps = threading.Event(), threading.Event(), steps

    def __call__(self, on_step: OnStep, cancel: Cancel) -> Answer:
        self.begun.set()
        self.open.wait(10)
        for step in range(1, self._steps + 1):
            if cancel():
                raise Cancelled("cancelled")
            on_step(Step("denoise", step, self._steps, blotches(step)))
        return ANSWER


def at_once(on_step: OnStep, cancel: Cancel) -> Answer:
    return ANSWER


def failing(error: Exception) -> Callable[[OnStep, Cancel], Answer]:
    def work(on_step: OnStep, cancel: Cancel) -> Answer:
        raise error

    return work


@pytest.fixture
def made() -> Iterator[Callable[..., Jobs]]:
    """``made(**options)``: jobs that are closed in the end."""
    every: list[Jobs] = []

    def make(**options: Any) -> Jobs:
        every.append(Jobs(**options))
        return every[-1]

    yield make
    for one in every:
        one.close(patience=0.0)


def test_jobs_answer(made: Callable[..., Jobs]) -> None:
    job = made().submit(at_once, "edit", {"index": "photos"})
    assert job.wait() is ANSWER
    assert (job.state, job.error, job.kind, job.about) == (State.DONE, None, "edit", {"index": "photos"})
    assert job.finished is not None
    assert job.finished >= job.created


def test_jobs_tell_what_happens_in_order(made: Callable[..., Jobs]) -> None:
    gate = Gate()
    gate.open.set()
    job = made().submit(gate, "edit")
    told = [*job.events()]
    assert [event.number for event in told] == [1, 2, 3, 4, 5, 6]
    assert [event.told.get("state", event.told.get("step")) for event in told] == [
        "waiting",
        "running",
        1,
        2,
        3,
        "done",
    ]
    assert told[2].told == {"stage": "denoise", "step": 1, "total": 3}
    assert job.step == {"stage": "denoise", "step": 3, "total": 3}
    assert [*job.events(after=4)] == told[4:]
    assert [*job.events(after=99)] == []


def test_jobs_show_a_preview_as_a_small_jpeg(made: Callable[..., Jobs]) -> None:
    def work(on_step: OnStep, cancel: Cancel) -> Answer:
        for step in range(5):
            on_step(Step("denoise", step, 5, blotches(step, (800, 600)).convert("RGBA")))
        return ANSWER

    job = made().submit(work, "draw")
    job.wait()
    previews = [event.preview for event in job.events() if event.kind == "step"]
    assert [preview is not None for preview in previews] == [False, False, False, True, True]
    picture = Image.open(io.BytesIO(previews[-1] or b""))
    assert (picture.format, picture.size) == ("JPEG", (events.PREVIEW_EDGE, events.PREVIEW_EDGE * 3 // 4))


@pytest.mark.parametrize("error", [QueryError("no such word", got="x"), StorageError("gone")])
def test_jobs_fail_with_what_a_user_can_mend(made: Callable[..., Jobs], error: SimatError) -> None:
    job = made().submit(failing(error), "edit")
    with pytest.raises(type(error)):
        job.wait()
    assert (job.state, job.error, job.answer) == (State.FAILED, error, None)
    assert [*job.events()][-1].told == {"state": "failed", "error": str(error)}


def test_jobs_do_not_tell_what_an_unexpected_error_holds(
    made: Callable[..., Jobs], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "simat.jobs"):
        job = made().submit(failing(KeyError("secret")), "edit")
        with pytest.raises(SimatError, match="unexpected error"):
            job.wait()
    assert "secret" not in str(job.error)
    assert "unexpectedly" in caplog.text
    assert made().submit(at_once, "edit").wait() is ANSWER


def test_jobs_go_on_after_a_failure(made: Callable[..., Jobs]) -> None:
    one = made(workers=1)
    one.submit(failing(MemoryError()), "edit")
    assert one.submit(at_once, "edit").wait() is ANSWER


def test_jobs_run_as_many_at_once_as_there_are_workers(made: Callable[..., Jobs]) -> None:
    two, gates = made(workers=2), [Gate() for _ in range(3)]
    handed = [two.submit(gate, "edit") for gate in gates]
    assert gates[0].begun.wait(5)
    assert gates[1].begun.wait(5)
    assert not gates[2].begun.wait(0.1)
    assert [job.state for job in handed] == [State.RUNNING, State.RUNNING, State.WAITING]
    assert two.position(handed[2]) == 0
    assert two.position(handed[0]) is None
    assert two.counts == {"waiting": 1, "running": 2, "done": 0, "failed": 0, "cancelled": 0}
    for gate in gates:
        gate.open.set()
    assert [job.wait() for job in handed] == [ANSWER] * 3


def test_jobs_refuse_more_than_may_wait(made: Callable[..., Jobs]) -> None:
    full, gate = made(workers=1, waiting=2), Gate()
    full.submit(gate, "edit")
    gate.begun.wait(5)
    second, _ = full.submit(at_once, "edit"), full.submit(at_once, "edit")
    with pytest.raises(Busy, match="too many jobs are waiting; got 2") as refusal:
        full.submit(at_once, "edit")
    assert refusal.value.retry_after == pytest.approx(jobs.GUESS_S * 3)
    second.cancel()  # by whoever has it; its place is free
    third = full.submit(at_once, "edit")
    gate.open.set()
    assert third.wait() is ANSWER


def test_jobs_take_as_many_at_once_as_can_run_and_wait(made: Callable[..., Jobs]) -> None:
    gate = Gate()
    for workers, waiting in ((1, 1), (2, 3)):
        some = made(workers=workers, waiting=waiting)
        for _ in range(workers + waiting):
            some.submit(gate, "edit")
        with pytest.raises(Busy):
            some.submit(gate, "edit")
    gate.open.set()


def test_jobs_know_how_long_their_work_takes(made: Callable[..., Jobs]) -> None:
    quick, gate = made(workers=1, waiting=1), Gate()
    for _ in range(12):
        quick.submit(at_once, "edit").wait()
    time.sleep(0.05)
    quick.submit(gate, "edit")
    gate.begun.wait(5)
    quick.submit(at_once, "edit")
    with pytest.raises(Busy) as refusal:
        quick.submit(at_once, "edit")
    assert refusal.value.retry_after < 1
    gate.open.set()


def test_cancel_ends_a_job_that_waits_at_once(made: Callable[..., Jobs]) -> None:
    one, gate = made(workers=1), Gate()
    first = one.submit(gate, "edit")
    gate.begun.wait(5)
    second = one.submit(at_once, "edit")
    one.cancel(second.id)
    assert second.state is State.CANCELLED
    assert one.position(second) is None
    with pytest.raises(Cancelled):
        second.wait()
    gate.open.set()
    assert first.wait() is ANSWER
    assert second.state is State.CANCELLED


def test_cancel_ends_a_running_job_before_its_next_step(made: Callable[..., Jobs]) -> None:
    gate = Gate()
    job = made().submit(gate, "edit")
    gate.begun.wait(5)
    job.cancel()
    assert job.state is State.RUNNING
    gate.open.set()
    with pytest.raises(Cancelled):
        job.wait()
    assert [event.kind for event in job.events()] == ["state", "state", "state"]


def test_cancel_forgets_a_job_that_has_ended(made: Callable[..., Jobs]) -> None:
    one = made()
    job = one.submit(at_once, "edit")
    job.wait()
    assert one.cancel(job.id).state is State.DONE
    with pytest.raises(NotFound, match="no such job"):
        one.get(job.id)


def test_jobs_are_named_so_that_nobody_guesses(made: Callable[..., Jobs]) -> None:
    one = made(waiting=100)
    names = {one.submit(at_once, "edit").id for _ in range(50)}
    assert len(names) == 50
    assert min(map(len, names)) >= 24
    for name in ("", "x", "../x", next(iter(names))[:-1]):
        with pytest.raises(NotFound):
            one.get(name)


def test_results_expire(made: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    short = made(kept=2.0)
    job = short.submit(at_once, "edit")
    job.wait()
    assert short.get(job.id) is job
    assert job.finished is not None
    later = job.finished + 2.1
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=lambda: later, monotonic=time.monotonic))
    with pytest.raises(NotFound, match="kept for 2 seconds"):
        short.get(job.id)


def test_results_expire_though_nobody_asks(made: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SWEEP_S", 0.05)
    short = made(kept=0.1)
    kept: Any = weakref.ref(short.submit(at_once, "edit"))
    for _ in range(200):
        gc.collect()
        if kept() is None:
            break
        time.sleep(0.05)
    assert kept() is None


def test_results_are_bounded_in_number(made: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "FINISHED_AT_MOST", 3)
    some = made(waiting=9)
    handed = [some.submit(at_once, "edit") for _ in range(5)]
    for job in handed:
        job.wait()
    assert some.get(handed[-1].id) is handed[-1]
    with pytest.raises(NotFound):
        some.get(handed[0].id)


def test_a_job_lets_go_of_what_it_was_asked_of(made: Callable[..., Jobs]) -> None:
    class Picture:
        pass

    picture = Picture()
    seen: Any = weakref.ref(picture)

    def work(on_step: OnStep, cancel: Cancel, held: Any = picture) -> Answer:
        return ANSWER

    job = made().submit(work, "edit")
    job.wait()
    del work, picture
    gc.collect()
    assert seen() is None
    assert job.answer is ANSWER


def test_stream_tells_a_coroutine_the_same(made: Callable[..., Jobs]) -> None:
    gate = Gate()
    job = made().submit(gate, "edit")

    async def listen(after: int) -> list[Event]:
        asyncio.get_running_loop().call_later(0.1, gate.open.set)
        return [event async for event in job.stream(after)]

    async def all_listen() -> list[list[Event]]:
        return await asyncio.gather(*(listen(after) for after in (0, 0, 2)))

    first, second, late = asyncio.run(all_listen())
    assert [event.number for event in first] == [1, 2, 3, 4, 5, 6]
    assert [event.number for event in second] == [1, 2, 3, 4, 5, 6]
    assert [event.number for event in late] == [3, 4, 5, 6]
    assert asyncio.run(listen(0))[-1].told == {"state": "done"}


def test_stream_leaves_nothing_behind(made: Callable[..., Jobs]) -> None:
    gate = Gate()
    job = made().submit(gate, "edit")

    async def leave() -> None:
        async def listen() -> None:
            async for _ in job.stream():
                pass

        task = asyncio.create_task(listen())
        await asyncio.sleep(0.05)
        assert len(job._events._listeners) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert not job._events._listeners
    gate.open.set()
    assert job.wait() is ANSWER


def test_events_are_bounded_and_numbered() -> None:
    record = Events()
    for step in range(1, 2001):
        record.add_step(Step("denoise", step, 2000))
    record.add("state", {"state": "done"}, last=True)
    record.add("state", {"state": "too late"})
    kept, ended = record.since(0)
    assert ended
    assert len(kept) == events.REMEMBERED
    assert [event.number for event in kept] == [*range(2002 - events.REMEMBERED, 2002)]
    assert record.since(1999) == (kept[-2:], True)


def test_close_cancels_what_waits_and_finishes_what_runs() -> None:
    one, gate = Jobs(workers=1), Gate()
    running = one.submit(gate, "edit")
    gate.begun.wait(5)
    waiting = one.submit(at_once, "edit")
    threading.Timer(0.1, gate.open.set).start()
    one.close(patience=5.0)
    assert running.answer is ANSWER
    assert waiting.state is State.CANCELLED
    assert "shut down before the job began" in str(waiting.error)
    with pytest.raises(Busy, match="shutting down"):
        one.submit(at_once, "edit")


def test_close_cancels_what_takes_too_long() -> None:
    one = Jobs(workers=1)
    begun = threading.Event()

    def endless(on_step: OnStep, cancel: Cancel) -> Answer:
        begun.set()
        while not cancel():
            time.sleep(0.01)
        raise Cancelled("cancelled")

    job = one.submit(endless, "edit")
    begun.wait(5)
    started = time.monotonic()
    one.close(patience=0.1)
    assert job.state is State.CANCELLED
    assert time.monotonic() - started < jobs.STOPPING_S


def test_close_twice_and_without_jobs_does_nothing() -> None:
    empty = Jobs()
    empty.close()
    empty.close()


def full_answer(folder: Path) -> Answer:
    results = (
        Result(0.25, id=3, path=folder / "ä b.png", caption='a dog\n"quoted"'),
        Result(0.0, image=blotches(4)),
    )
    extras = {
        "mask": np.arange(12).reshape(1, 3, 4) % 2 == 0,
        "input": blotches(5),
        "config": {"steps": 4, "edge": (1, 2), "note": None, "on": True},
        "seed": np.int64(9),
        "models": {"diffusion": "scenes abc"},
        "loss": [0.5, np.float32(0.25)],
        "half": np.array([0.1, 2.0], np.float16),
    }
    return Answer(results, "diffedit", {"total": 0.5}, extras)


def same(a: Any, b: Any) -> bool:
    """Whether two values say the same, tuples and lists being alike."""
    if isinstance(a, Image.Image):
        return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and bool(np.array_equal(a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_keeping_then_reading_is_the_identity(tmp_path: Path) -> None:
    kept = Kept("abc", "edit", 123.5, full_answer(tmp_path), {"index": "photos", "none": None})
    back = load(save(tmp_path / "jobs", kept))
    assert (back.id, back.kind, back.finished, back.about) == ("abc", "edit", 123.5, kept.about)
    assert back.answer.backend == "diffedit"
    assert back.answer.timings == {"total": 0.5}
    assert same(dict(kept.answer.extras), dict(back.answer.extras))
    for one, other in zip(kept.answer, back.answer, strict=True):
        assert (one.score, one.id, one.path, one.caption) == (other.score, other.id, other.path, other.caption)
        assert one.image is None or same(one.image, other.image)
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
nested = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), nested))
def test_keeping_takes_any_extras_of_json(tmp_path_factory: pytest.TempPathFactory, extras: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("kept")
    answer = Answer((), "made", {}, extras)
    assert dict(load(save(folder, Kept("x", "edit", 0.0, answer))).answer.extras) == extras


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), b"bytes"])
def test_keeping_refuses_what_it_cannot_keep(tmp_path: Path, value: Any) -> None:
    with pytest.raises(StorageError, match="cannot be kept; got"):
        save(tmp_path, Kept("x", "edit", 0.0, Answer((), "made", {}, {"value": value})))
    assert not [*tmp_path.iterdir()]


def damage_nothing(place: Path) -> None:
    (place / "job.json").unlink()


def damage_json(place: Path) -> None:
    (place / "job.json").write_text("{")


def damage_version(place: Path) -> None:
    document = json.loads((place / "job.json").read_text())
    (place / "job.json").write_text(json.dumps({**document, "version": 99}))


def damage_picture(place: Path) -> None:
    next(place.glob("*.png")).write_bytes(b"no picture")


def damage_array(place: Path) -> None:
    np.save(next(place.glob("*.npy")), np.array([{}], object), allow_pickle=True)


def damage_link(place: Path) -> None:
    text = (place / "job.json").read_text().replace('"$array": "', '"$array": "../../')
    next(place.glob("*.npy")).rename(place.parent.parent / "1.npy")
    (place / "job.json").write_text(text)


@pytest.mark.parametrize(
    "damage", [damage_nothing, damage_json, damage_version, damage_picture, damage_array, damage_link]
)
def test_reading_refuses_a_damaged_job(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    place = save(tmp_path / "jobs", Kept("abc", "edit", time.time(), full_answer(tmp_path)))
    damage(place)
    with pytest.raises(StorageError):
        load(place)
    Jobs(folder=tmp_path / "jobs").close()  # and a server starts all the same


def test_a_server_finds_what_the_one_before_left(tmp_path: Path) -> None:
    first, gate = Jobs(folder=tmp_path / "jobs"), Gate()
    done, failed = first.submit(at_once, "edit", {"index": "a"}), first.submit(failing(QueryError("no")), "edit")
    running = first.submit(gate, "draw")
    gate.begun.wait(5)
    threading.Timer(0.1, gate.open.set).start()
    first.close(patience=5.0)
    second = Jobs(folder=tmp_path / "jobs")
    for old in (done, running):
        found = second.get(old.id)
        assert (found.state, found.kind, found.about, found.finished) == (State.DONE, old.kind, old.about, old.finished)
        assert same(found.wait()[0].image, ANSWER[0].image)
        assert [event.told["state"] for event in found.events()] == ["waiting", "done"]
    with pytest.raises(NotFound):
        second.get(failed.id)
    second.cancel(done.id)
    second.close()
    assert [place.name for place in (tmp_path / "jobs").iterdir()] == [running.id]


def test_a_server_forgets_what_is_too_old(tmp_path: Path) -> None:
    place = save(tmp_path, Kept("abc", "edit", time.time() - 100, ANSWER))
    assert isinstance(Jobs(folder=tmp_path, kept=200.0).get("abc"), Job)
    with pytest.raises(NotFound):
        Jobs(folder=tmp_path, kept=50.0).get("abc")
    assert not place.exists()


def test_close_loses_only_the_answer_that_cannot_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Jobs(folder=tmp_path)
    odd = Answer((), "made", {}, {"odd": object()})
    handed = [one.submit(lambda *_: odd, "edit"), one.submit(at_once, "edit")]
    for job in handed:
        job.wait()
    one.close()
    assert [place.name for place in tmp_path.iterdir()] == [handed[1].id]
    assert "a finished job is lost" in caplog.text
