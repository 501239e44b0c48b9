"""The training loop that the models of the scene world share: AdamW, warm-up, cosine, averaged weights, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from finetune.scenes.stream import TrainingError
from simat.files import atomic
from simat.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LOG_EVERY = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How weights are moved.

    Attributes:
        batch: pictures per step.
        rate: the highest learning rate; it rises over ``warm_up`` steps and falls as a cosine to nothing.
        decay: weight decay of everything with two axes or more.
        average: decay of the moving average of weights that is kept in the end.
        save_every: steps between checkpoints.

    Raises:
        TrainingError: a number out of range.
    """

    steps: int
    batch: int
    rate: float
    seed: int = 0
    warm_up: int = 60
    decay: float = 0.01
    average: float = 0.999
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise TrainingError("training takes a step and a picture", got=f"{self.steps} × {self.batch}")
        if self.seed < 0:
            raise TrainingError("a seed is not negative", got=self.seed)

    def taking(self, steps: int | None) -> Plan:
        """The same plan, shorter or longer; None leaves it."""
        return self if steps is None else replace(self, steps=steps)


@dataclass(frozen=True)
class Trained:
    """A written model and how it came about.

    Attributes:
        step: steps taken.
        seconds: of computing, the wait for scenes left out.
        history: step, mean loss and seconds, now and then.
    """

    folder: Path
    step: int
    seconds: float
    parameters: int
    device: str
    history: list[dict[str, Any]]


class Trainer:
    """A training between two steps.

    Attributes:
        device: ``cuda`` where there is one, else ``cpu``.
        step: steps taken.
        history: step, loss and seconds since the start, now and then.
    """

    def __init__(self, model: Module, plan: Plan, identity: dict[str, Any]) -> None:
        import torch

        self.device = device()
        self.plan, self._identity = plan, json.loads(json.dumps({**asdict(plan), **identity}))
        for name in ("steps", "save_every"):  # may change from one run to the next
            self._identity.pop(name)
        self.model = model.train().to(self.device)
        self._average = {name: value.detach().clone() for name, value in self._state().items()}
        self._optimizer = torch.optim.AdamW(self._groups(), lr=plan.rate, betas=(0.9, 0.98), fused=True)
        self._seconds, self._losses = 0.0, list[float]()
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def run(self, batches: Iterable[Any], loss: Callable[[Any], Tensor], checkpoint: Path, bars: Progress) -> None:
        """Take a step for every batch, from the checkpoint on where there is one; ``batches`` must begin there."""
        bars.start("train", self.plan.steps, "steps")
        bars.advance(min(self.step, self.plan.steps))
        for batch in ahead(batches):
            self.take(lambda batch=batch: loss(batch))  # type: ignore[misc]
            bars.advance(1)
            if self.step % self.plan.save_every == 0:
                self.save(checkpoint)
        self.save(checkpoint)

    def take(self, loss: Callable[[], Tensor]) -> None:
        """One step down the gradient of what ``loss`` returns.

        Raises:
            TrainingError: the loss is no number.
        """
        import torch

        started = time.perf_counter()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        value = loss()
        if not torch.isfinite(value):
            raise TrainingError("the loss is no number any more", got=f"step {self.step}", remedy="lower the rate")
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        self._follow()
        self._seconds += time.perf_counter() - started
        self._losses = [*self._losses, value.item()][-LOG_EVERY:]
        if self.step % LOG_EVERY == 0:
            self.history.append(self._point())

    def save(self, path: Path) -> None:
        """Write everything that :meth:`resume` needs."""
        import torch

        document = {
            "identity": self._identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "history": self.history,
            "losses": self._losses,
            "seconds": self._seconds,
        }
        with atomic(path) as temporary:
            torch.save(document, temporary)

    def resume(self, path: Path) -> None:
        """Go on where :meth:`save` was called; nothing where there is no such file.

        Raises:
            TrainingError: a checkpoint of other options lies there.
        """
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        document = torch.load(path, map_location=self.device, weights_only=True)
        if document["identity"] != self._identity:
            raise TrainingError("a checkpoint of other options lies here", got=str(path), remedy="take another folder")
        self.model.load_state_dict(document["model"])
        self._optimizer.load_state_dict(document["optimizer"])
        self._average, self.history = document["average"], document["history"]
        self._losses, self._seconds = document["losses"], document["seconds"]
        self.step = document["step"]

    def trained(self, folder: Path) -> Trained:
        """What has become of it."""
        parameters = sum(value.numel() for value in self.model.parameters())
        history = self.history if self.step % LOG_EVERY == 0 else [*self.history, self._point()]
        return Trained(folder, self.step, self._seconds, parameters, self.device, history)

    def averaged(self) -> dict[str, Tensor]:
        """The state of the averaged model."""
        return {**self.model.state_dict(), **self._average}

    def _rate(self) -> float:
        rising = min(1.0, (self.step + 1) / self.plan.warm_up)
        return self.plan.rate * rising * (1 + math.cos(math.pi * min(1.0, self.step / self.plan.steps))) / 2

    def _follow(self) -> None:
        import torch

        # Young averages forget faster, so that the first weights leave no trace.
        decay = min(self.plan.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = self._state()
            torch._foreach_lerp_([self._average[name] for name in now], list(now.values()), 1 - decay)

    def _state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}

    def _groups(self) -> list[dict[str, Any]]:
        trained = [value for value in self.model.parameters() if value.requires_grad]
        return [
            {"params": [value for value in trained if value.ndim > 1], "weight_decay": self.plan.decay},
            {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
        ]

    def _point(self) -> dict[str, Any]:
        mean = sum(self._losses) / len(self._losses)
        return {"step": self.step, "loss": round(mean, 5), "seconds": round(self._seconds, 1)}


def ahead(batches: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same batches, prepared by a thread of their own while the device computes."""
    ready: Queue[tuple[T | None, BaseException | None]] = Queue(depth)
    left = Event()

    def prepare() -> None:
        try:
            for batch in batches:
                ready.put((batch, None))
                if left.is_set():
                    return
            ready.put((None, None))
        except BaseException as error:  # told to the one who trains
            ready.put((None, error))

    Thread(target=prepare, daemon=True).start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        left.set()
        with suppress(Empty):
            ready.get_nowait()


def device() -> str:
    """Where training runs."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
