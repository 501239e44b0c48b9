"""Training of heads over frozen features with a contrastive loss (thesis 3.3.3)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64

from finetune import checkpoint
from finetune.checkpoint import State, load_checkpoint, save_checkpoint
from finetune.config import TrainConfig, TrainError
from finetune.curves import NAME as CURVES
from finetune.losses import Workspace, info_nce_gradients
from finetune.modules import HeadPair, heads_of
from finetune.pairs import Features, split_pairs
from finetune.report import Clock, best_epoch, described
from simat import __version__
from simat.files import locked, remove_leftovers
from simat.heads import DOCUMENT, Heads, check_place, load_heads, save_heads
from simat.progress import Progress, Silent
from simat.retrieval import recall_both_ways
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

BACKBONE = "backbone.safetensors"
BESIDE = (checkpoint.NAME, CURVES, BACKBONE, ".lock")


def train(
    features: Features,
    folder: Path,
    config: TrainConfig,
    device: str = "auto",
    progress: Progress | None = None,
    recipe: type[Training] | None = None,
) -> Heads:
    """Train heads into ``folder``, or go on where an interrupted training was.

    Every epoch takes each training image once with one of its captions, in batches of exactly ``config.batch``; the
    images left over by an epoch's batches come into others. After every epoch recall is measured and the state
    written. On a CPU the same arguments and number of threads give the same bytes, interrupted or not.

    Args:
        features: what to train on.
        folder: new, empty, or of an interrupted training with the same arguments; it becomes the folder of heads.
        config: the settings.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told of every step.
        recipe: another training than that of heads alone.

    Returns:
        The heads, as saved; ``details`` holds the curve.

    Raises:
        TrainError: a batch larger than the training images, a damaged checkpoint, one of other settings, no such
            device, or a loss that is no longer finite.
        StorageError: other heads, or something else, in ``folder``.
    """
    progress = progress or Silent()
    recipe = recipe or Training
    identity = {"recipe": recipe.name, "cache": features.fingerprint, **config.as_dict()}
    if (folder / DOCUMENT).exists():
        done = load_heads(folder)
        if done.details.get("identity") == identity:
            progress.note(f"{folder} is trained already")
            return done
    check_place(folder, BESIDE)
    run = recipe(features, config, device, progress)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_leftovers(folder)
        state = load_checkpoint(folder, run.module, run.optimizer, identity)
        if state.epoch:
            progress.note(f"going on after epoch {state.epoch}")
        run.run(state, lambda: save_checkpoint(folder, state, run.module, run.optimizer, identity))
        heads = run.finish(folder, state, identity)
        save_heads(folder, heads, BESIDE)
        (folder / checkpoint.NAME).unlink(missing_ok=True)
    return heads


@dataclass(frozen=True)
class Batch:
    """Unit rows of both sides, row by row of one pair."""

    images: Float32[torch.Tensor, "b d"]
    texts: Float32[torch.Tensor, "b e"]


class Training:
    """A training's module, optimiser and data; arguments and errors as :func:`train`."""

    name = "heads"

    def __init__(self, features: Features, config: TrainConfig, device: str, progress: Progress) -> None:
        self._features, self._config, self._progress = features, config, progress
        self._device = _device(device)
        self._train, self._measured, note = split_pairs(features, config.validation, config.seed)
        if config.batch > len(self._train):
            raise TrainError(
                "the batch is larger than the training images",
                got=f"a batch of {config.batch} for {len(self._train)} images",
                remedy=f"use --batch {len(self._train)} or less",
            )
        self._note = note
        self.module = self.make_module().to(self._device)
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        decay = config.weight_decay if config.optimizer == "adamw" else 0.0
        self.optimizer = kind(
            [p for p in self.module.parameters() if p.requires_grad], lr=config.lr, weight_decay=decay, fused=True
        )
        self._workspace = Workspace()

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self._train) // self._config.batch

    def run(self, state: State, save: Callable[[], None]) -> None:
        """Train from ``state`` to the end; ``state`` is changed and saved after every epoch."""
        left = (self._config.epochs - state.epoch) * self.steps
        self._progress.note(f"{len(self._train):,} images with {len(self._train.captions):,} captions; {self._note}")
        self._progress.start("training", left, "steps")
        if not state.curve:
            state.curve.append({"epoch": 0, "loss": None, **self._recall()})
        clock = Clock(left, self._progress)
        while state.epoch < self._config.epochs and not self._waited_enough(state):
            loss = self._epoch(state.epoch, clock)
            state.epoch += 1
            state.curve.append({"epoch": state.epoch, "loss": loss, **self._recall()})
            if self._keeps_best and best_epoch(state.curve) == state.epoch:
                state.best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
            save()
            self._progress.note(described(state.curve[-1], self._config.epochs))

    def make_module(self) -> HeadPair:
        """The module with its first weights."""
        return HeadPair(self._features.image_space.dim, self._features.text_space.dim, self._config)

    def finish(self, folder: Path, state: State, identity: dict[str, Any]) -> Heads:
        """The heads at the end of ``state``, or the best where the training keeps them."""
        if state.best:
            self.module.load_state_dict(state.best)
        return heads_of(
            self.module,
            self.image_space(folder),
            self._features.text_space,
            self._config,
            self._details(state, identity),
        )

    def image_space(self, folder: Path) -> EmbeddingSpace:
        """The space that the image head follows; may write what makes it into ``folder``."""
        return self._features.image_space

    def image_features(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b d"]:
        """Unit rows that the image head takes, as they are at present."""
        return unit_rows(self._features.images[rows])

    def _details(self, state: State, identity: dict[str, Any]) -> dict[str, Any]:
        return {
            "identity": identity,
            "corpus": self._features.corpus,
            "pairs": {"images": len(self._train), "captions": len(self._train.captions)},
            "epoch": best_epoch(state.curve) if state.best else state.epoch,
            "curve": state.curve,
            "versions": {
                "simat": __version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
        }

    def _epoch(self, epoch: int, clock: Clock) -> float:
        losses = []
        for step, batch in enumerate(self.batches(epoch), epoch * self.steps):
            losses.append(self.step(batch, step))
            self._progress.advance(1)
            clock.tick()
        mean = float(np.mean([float(loss) for loss in losses]))
        if not np.isfinite(mean):
            raise TrainError(f"the loss of epoch {epoch + 1} is not finite", got=mean, remedy="lower --lr")
        return mean

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """Train on a batch; ``step`` counts from 0 through all epochs.

        Returns:
            The loss, a scalar before the step.
        """
        config = self._config
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.learn(batch)
        if config.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step, config.epochs * self.steps)
        self.optimizer.step()
        return loss

    def learn(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, and its gradient in the parameters."""
        half = self._config.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            mapped = self.module.image(batch.images), self.module.text(batch.texts)
        loss, *gradients = self.contrast(*mapped)
        torch.autograd.backward(mapped, [g.to(m.dtype) for g, m in zip(gradients, mapped, strict=True)])
        return loss

    def contrast(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss between vectors after the heads, and its gradients."""
        half = self._config.precision == "bf16"
        with torch.no_grad():
            return info_nce_gradients(image.float(), text.float(), self._config.tau, half, self._workspace)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0."""
        images, captions = self._train.draw(self._config.seed, epoch)
        for start in range(0, self.steps * self._config.batch, self._config.batch):
            rows = slice(start, start + self._config.batch)
            yield self.batch(images[rows], captions[rows])

    def batch(self, images: Int64[np.ndarray, " b"], captions: Int64[np.ndarray, " b"]) -> Batch:
        """The features of some rows of both sides."""
        return Batch(self._rows(self._features.images, images), self._rows(self._features.texts, captions))

    def _rows(self, stored: Float16[np.ndarray, "n d"], rows: Int64[np.ndarray, " b"]) -> Float32[torch.Tensor, "b d"]:
        # Unit rows were rounded to float16: their length is one only after normalising again.
        chosen = torch.from_numpy(stored[rows]).to(self._device).float()
        return chosen.div_(torch.linalg.vector_norm(chosen, dim=1, keepdim=True))

    def _recall(self) -> dict[str, Any]:
        if self._measured is None:
            return {}
        spaces = self._features.image_space, self._features.text_space
        heads = heads_of(self.module, *spaces, self._config, {})
        images = heads.project_images(self.image_features(self._measured.images))
        texts = heads.project_texts(unit_rows(self._features.texts[self._measured.captions]))
        return recall_both_ways(images, texts, self._measured.image_of_caption)

    def _waited_enough(self, state: State) -> bool:
        patience = self._config.patience
        return self._keeps_best and patience is not None and state.epoch - best_epoch(state.curve) >= patience

    @property
    def _keeps_best(self) -> bool:
        return self._config.patience is not None and self._measured is not None


def _device(name: str) -> torch.device:
    if name not in {"auto", "cpu", "cuda"}:
        raise TrainError("no such device", got=repr(name), remedy="use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainError("no CUDA device here", got="--device cuda", remedy="use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
