"""Answers of backends on disk: one checkpoint per answer, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from eval.editing.cases import Case, Mask, identity_of, query_of
from eval.editing.settings import Setting
from simat.errors import QueryError, SimatError, StorageError
from simat.files import atomic, sha256_text, write_text
from simat.progress import Progress, Silent
from simat.types import Accepts, Answer, Query

ANSWERS, INPUTS = "answers", "inputs"


@runtime_checkable
class Answerer(Protocol):
    """Answers queries by the backends that make pictures."""

    @property
    def model(self) -> str:
        """What the answers depend on beside query and settings."""
        ...

    def accepts(self, backend: str) -> Accepts:
        """Which fields of a query a backend requires and may use."""
        ...

    def answer(self, query: Query, backend: str, settings: Mapping[str, str]) -> Answer:
        """One answer."""
        ...


@dataclass(frozen=True)
class Made:
    """What a backend answered to one case.

    Attributes:
        picture: None where the backend refused.
        mask: of what it changed, on its own grid, where it tells.
        seconds: of the whole answer.
        timings: seconds by stage.
        refused: why, where it did.
    """

    picture: Image.Image | None = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)
    seconds: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True)
class Store:
    """The answers of one run, in a folder: a picture, a mask where there is one, and last a document, per answer.

    Attributes:
        folder: of the run.
    """

    folder: Path

    def place(self, setting: Setting, case: Case, suffix: str) -> Path:
        """Where a file of an answer lies."""
        return self.folder / ANSWERS / setting.slug / f"{case.key}{suffix}"

    def input(self, case: Case) -> Path:
        """Where the picture of a case lies."""
        return self.folder / INPUTS / f"{case.key}.png"

    def has(self, setting: Setting, case: Case, identity: str) -> bool:
        """Whether this very answer is there."""
        try:
            document = json.loads(self.place(setting, case, ".json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and document.get("identity") == identity

    def load(self, setting: Setting, case: Case) -> Made:
        """An answer that is there.

        Raises:
            StorageError: it is not, or it is damaged.
        """
        path = self.place(setting, case, ".json")
        try:
            document = json.loads(path.read_text("utf-8"))
            picture = None if document["refused"] else _read(self.place(setting, case, ".png"))
            mask = np.asarray(_read(self.place(setting, case, ".mask.png"))) > 127 if document["mask"] else None
            return Made(picture, mask, document["seconds"], document["timings"], document["refused"])
        except (OSError, ValueError, KeyError) as error:
            raise StorageError("an answer is missing or damaged", got=str(path), remedy="run it again") from error

    def save(self, setting: Setting, case: Case, made: Made, identity: str, facts: Mapping[str, Any]) -> None:
        """Write an answer; its document last."""
        self.place(setting, case, "").parent.mkdir(parents=True, exist_ok=True)
        if made.picture is not None:
            _write(self.place(setting, case, ".png"), made.picture)
        if made.mask is not None:
            _write(self.place(setting, case, ".mask.png"), Image.fromarray(made.mask.astype(np.uint8) * 255))
        document = {
            "identity": identity, "case": case.title, "setting": setting.label, "seconds": made.seconds,
            "timings": dict(made.timings), "refused": made.refused, "mask": made.mask is not None, **facts,
        }  # fmt: skip
        write_text(self.place(setting, case, ".json"), json.dumps(document, ensure_ascii=False, default=str) + "\n")

    def save_input(self, case: Case) -> None:
        """Write the picture of a case, where it has one and it is not there yet."""
        picture = case.picture()
        if picture is not None and not self.input(case).exists():
            self.input(case).parent.mkdir(parents=True, exist_ok=True)
            _write(self.input(case), picture)


def run(
    answerer: Answerer,
    cases: Sequence[Case],
    settings: Sequence[Setting],
    store: Store,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Let every setting answer every case; what is there already is not asked again.

    All settings answer one case before the next: an interrupted run is a fair one, and what depends on the picture
    alone (encoding, inversion) is still at hand.

    Raises:
        QueryError: two cases of one key, or a backend that refuses the first case it is asked.
        SimatError: as the backends raise.
    """
    if len({case.key for case in cases}) < len(cases):
        raise QueryError("two cases have the same key")
    progress = progress or Silent()
    progress.start("answers", sum(min(setting.limit or len(cases), len(cases)) for setting in settings), "answers")
    answered: set[Setting] = set()
    for number, case in enumerate(cases):
        store.save_input(case)
        identity = identity_of(case)
        for setting in settings:
            if setting.limit is not None and number >= setting.limit:
                continue
            key = answer_key(identity, setting, answerer.model, seed + number)
            if not store.has(setting, case, key):
                made, facts = _answer(answerer, case, setting, seed + number, may_refuse=setting in answered)
                store.save(setting, case, made, key, facts)
            answered.add(setting)
            progress.advance(1)


def answer_key(identity: str, setting: Setting, model: str, seed: int) -> str:
    """SHA-256 of everything that an answer depends on: case, setting, model, seed."""
    return sha256_text("\n".join([identity, setting.label, model, str(seed)]))


def answered(
    store: Store, setting: Setting, cases: Sequence[Case], model: str, seed: int
) -> tuple[list[Case], list[Made]]:
    """The cases that a setting has answered so far, with its answers; those of another model or seed are none."""
    kept = [
        case
        for number, case in enumerate(cases[: setting.limit])
        if store.has(setting, case, answer_key(identity_of(case), setting, model, seed + number))
    ]
    return kept, [store.load(setting, case) for case in kept]


def _answer(
    answerer: Answerer, case: Case, setting: Setting, seed: int, may_refuse: bool
) -> tuple[Made, Mapping[str, Any]]:
    from time import perf_counter

    accepts = answerer.accepts(setting.backend)
    query = query_of(case, accepts, seed, setting.strength, setting.reference)
    started = perf_counter()
    try:
        answer = answerer.answer(query, setting.backend, setting.settings)
    except QueryError as error:
        if not may_refuse:  # a setting that takes no case at all is a mistake, not a figure
            raise
        return Made(None, refused=str(error)), {"seed": seed}
    seconds = perf_counter() - started
    picture = answer[0].image
    if picture is None:
        raise SimatError(f"the backend {setting.backend!r} made no picture", remedy="compare backends that make some")
    facts = {"seed": seed, **{name: answer.extras[name] for name in ("models", "config") if name in answer.extras}}
    return Made(picture, _mask(answer), seconds, answer.timings), facts


def _mask(answer: Answer) -> Mask | None:
    mask = answer.extras.get("mask")
    if mask is None:
        return None
    flat = np.squeeze(np.asarray(mask))
    return np.asarray(flat > 0.5)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def _write(path: Path, picture: Image.Image) -> None:
    with atomic(path) as temporary:
        picture.save(temporary, "PNG")
