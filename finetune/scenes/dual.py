"""Training of the dual encoder: pictures and prompts meet on one sphere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float, Int64

from finetune.scenes.folder import Shape, write_folder
from finetune.scenes.stream import Batch, StreamOptions, TrainingError, stream
from simat.files import atomic
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

NAME = "dual"
LOG_EVERY = 20


@dataclass(frozen=True)
class DualOptions:
    """How the encoder is trained.

    Attributes:
        batch: pictures per step.
        rate: the highest learning rate; it rises over ``warm_up`` steps and falls as a cosine to nothing.
        temperature: of the softmax; fixed, for good deltas at a scale of one (thesis, section 3.4).
        average: decay of the moving average of weights that is kept in the end.
        save_every: steps between checkpoints.
        threads: of the CPU, beside the process that draws; None for all.

    Raises:
        TrainingError: a number out of range.
    """

    seed: int = 0
    steps: int = 2400
    batch: int = 128
    rate: float = 2e-3
    warm_up: int = 60
    decay: float = 0.05
    temperature: float = 0.1
    average: float = 0.99
    save_every: int = 100
    threads: int | None = 1
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise TrainingError("training takes a step and two pictures", got=f"{self.steps} × {self.batch}")
        if self.seed < 0:
            raise TrainingError("a seed is not negative", got=self.seed)

    @classmethod
    def smoke(cls, seed: int = 0) -> DualOptions:
        """Seconds of training that end in a folder of the right layout and no more."""
        shape = Shape(dim=32, width=8, layers=(1, 1, 1, 1), text_width=32, text_layers=1)
        return cls(seed=seed, steps=6, batch=16, save_every=3, shape=shape)


@dataclass(frozen=True)
class Trained:
    """A written encoder and how it came about.

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


def contrastive_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], true: Bool[Tensor, "n n"], temperature: float
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (Radford et al. 2021), false negatives left out.

    −½·mean_i log softmax_j(⟨u_i, v_j⟩/τ)_i − ½·mean_j log softmax_i(⟨u_i, v_j⟩/τ)_j, where prompts that are true of a
    picture without being its own take no part in either softmax.

    Args:
        images, texts: unit rows.
        true: whether text j is true of image i.
    """
    import torch
    from torch.nn.functional import cross_entropy

    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = (images @ texts.T / temperature).masked_fill(true & ~own, -math.inf)
    targets = torch.arange(len(images), device=images.device)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def encode_tokens(model: Any, tokens: Int64[Tensor, "n context"]) -> Float[Tensor, "n d"]:
    """``model.encode_text`` without the columns of padding alone; the tower is causal, so none is missed."""
    import torch

    length = int(tokens.argmax(1).max()) + 1
    embedded = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(embedded, attn_mask=model.attn_mask[:length, :length]))
    rows = torch.arange(len(tokens), device=tokens.device)
    projected: Tensor = hidden[rows, tokens.argmax(1)] @ model.text_projection
    return projected


def train_dual(out: Path, options: DualOptions, progress: Progress | None = None) -> Trained:
    """Train, from the last checkpoint where there is one, and write the folder of the averaged encoder.

    Args:
        out: gets ``dual`` (the encoder) and ``training`` (the checkpoint).

    Raises:
        TrainingError: a checkpoint of other options lies there.
    """
    bars, checkpoint = progress or Silent(), out / "training" / f"{NAME}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with _threads(options.threads):
        run = Run(options)
        run.resume(checkpoint)
        bars.start("train", options.steps, "steps")
        bars.advance(min(run.step, options.steps))
        shape = options.shape
        drawn = StreamOptions(options.seed, options.batch, shape.transform, shape.context)
        with stream(drawn, run.step, options.steps) as batches:
            for batch in batches:
                run.take(batch)
                bars.advance(1)
                if run.step % options.save_every == 0:
                    run.save(checkpoint)
        run.save(checkpoint)
    write_folder(out / NAME, options.shape, run.averaged())
    return run.trained(out / NAME)


class Run:
    """A training between two steps.

    Attributes:
        step: steps taken.
        history: step, loss and seconds since the start, now and then.
    """

    def __init__(self, options: DualOptions) -> None:
        import torch
        from open_clip import CLIP

        self._options, self._device = options, "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            model: Any = CLIP(**options.shape.model, init_logit_scale=math.log(1 / options.temperature))
        model.logit_scale.requires_grad_(False)
        model.visual.to(memory_format=torch.channels_last)  # twice as fast on CPUs
        self._model = model.train().to(self._device)
        self._average = {name: value.detach().clone() for name, value in self._state().items()}
        self._optimizer = torch.optim.AdamW(self._groups(), lr=options.rate, betas=(0.9, 0.98), fused=True)
        self._seconds, self._losses = 0.0, list[float]()
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def take(self, batch: Batch) -> None:
        """One step."""
        import torch

        started = time.perf_counter()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        loss = self._loss(batch)
        if not torch.isfinite(loss):
            raise TrainingError("the loss is no number any more", got=f"step {self.step}", remedy="lower the rate")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        self._follow()
        self._seconds += time.perf_counter() - started
        self._losses = [*self._losses, loss.item()][-LOG_EVERY:]
        if self.step % LOG_EVERY == 0:
            self.history.append(self._point())

    def save(self, path: Path) -> None:
        """Write everything that :meth:`resume` needs."""
        import torch

        document = {
            "options": _identity(self._options),
            "step": self.step,
            "model": self._model.state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "history": self.history,
            "losses": self._losses,
            "seconds": self._seconds,
        }
        with atomic(path) as temporary:
            torch.save(document, temporary)

    def resume(self, path: Path) -> None:
        """Go on where :meth:`save` was called; nothing where there is no such file."""
        import torch

        if not path.exists():
            return
        document = torch.load(path, map_location=self._device, weights_only=True)
        if document["options"] != _identity(self._options):
            raise TrainingError("a checkpoint of other options lies here", got=str(path), remedy="take another folder")
        self._model.load_state_dict(document["model"])
        self._optimizer.load_state_dict(document["optimizer"])
        self._average, self.history = document["average"], document["history"]
        self._losses, self._seconds = document["losses"], document["seconds"]
        self.step = document["step"]

    def trained(self, folder: Path) -> Trained:
        """What has become of it."""
        parameters = sum(value.numel() for value in self._model.parameters())
        history = self.history if self.step % LOG_EVERY == 0 else [*self.history, self._point()]
        return Trained(folder, self.step, self._seconds, parameters, self._device, history)

    def averaged(self) -> dict[str, Tensor]:
        """The state of the averaged encoder."""
        return {**self._model.state_dict(), **self._average}

    def _loss(self, batch: Batch) -> Tensor:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        transform = self._options.shape.transform
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
        pixels = (torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
        pixels = pixels.contiguous(memory_format=torch.channels_last).to(self._device)
        # On CPUs, the plain attention goes back twice as fast as the fused one.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(self._device, torch.bfloat16):
            images = self._model.encode_image(pixels)
            texts = encode_tokens(self._model, torch.from_numpy(batch.tokens).to(self._device))
        unit = torch.nn.functional.normalize
        rows = (unit(images.float(), dim=-1), unit(texts.float(), dim=-1))
        return contrastive_loss(*rows, torch.from_numpy(batch.true).to(self._device), self._options.temperature)

    def _rate(self) -> float:
        options, step = self._options, self.step
        rising = min(1.0, (step + 1) / options.warm_up)
        return options.rate * rising * (1 + math.cos(math.pi * min(1.0, step / options.steps))) / 2

    def _follow(self) -> None:
        import torch

        # Young averages forget faster, so that the first weights leave no trace.
        decay = min(self._options.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = self._state()
            torch._foreach_lerp_([self._average[name] for name in now], list(now.values()), 1 - decay)

    def _state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._model.state_dict().items() if value.is_floating_point()}

    def _groups(self) -> list[dict[str, Any]]:
        trained = [value for value in self._model.parameters() if value.requires_grad]
        return [
            {"params": [value for value in trained if value.ndim > 1], "weight_decay": self._options.decay},
            {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
        ]

    def _point(self) -> dict[str, Any]:
        mean = sum(self._losses) / len(self._losses)
        return {"step": self.step, "loss": round(mean, 4), "seconds": round(self._seconds, 1)}


def _identity(options: DualOptions) -> dict[str, Any]:
    """What must be the same for a training to go on; its length may change."""
    known = asdict(options)
    known["shape"]["layers"] = list(known["shape"]["layers"])
    return {name: value for name, value in known.items() if name not in {"steps", "threads", "save_every"}}


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
