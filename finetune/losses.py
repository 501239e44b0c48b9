"""Symmetric InfoNCE over all pairs of a batch (thesis eq. 3.3), with its gradient in closed form.

For unit rows I, T of n pairs and a temperature τ, S = I Tᵀ / τ, the loss is the mean cross-entropy of naming the text
of each image among all texts, and the image of each text among all images::

    L = 1/2n Σᵢ (log Σⱼ exp Sᵢⱼ − Sᵢᵢ) + 1/2n Σⱼ (log Σᵢ exp Sᵢⱼ − Sⱼⱼ)
    ∂L/∂S = (P + Q − 2·1) / 2n,    P = softmax of each row, Q = softmax of each column

(eq. 3.3 leaves out the −log of Sohn 2016.) Where exp S cannot overflow, P + Q costs one exponential per pair:
exp Sᵢⱼ · (1/Rᵢ + 1/Cⱼ), with the sums R over rows and C over columns. The matrix is made in blocks of rows: one block
where it fits ``memory``, else it is made a second time once the sums are known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float32

MEMORY = 2 * 2**30
"""Bytes that the matrix of a batch may take at once."""
STEEPEST = 40.0  # largest 1/τ at which sums of exp(±1/τ) over any batch stay far from the ends of float32
SLICE_BYTES = {"cpu": 2**20, "cuda": 2**28}  # worked on at once between two products: what a cache holds
SHORTEST = 1e-12  # rows are divided by no less

Rows = Float32[torch.Tensor, "n d"]


class Workspace:
    """Memory that one step leaves to the next: fresh memory costs more than the work that is done in it.

    Args:
        memory: bytes that the matrix of a batch may take at once.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self._held: dict[str, torch.Tensor] = {}

    def take(self, name: str, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        """A matrix of any content; whatever was taken by this name before is lost."""
        held = self._held.get(name)
        if held is None or (held.dtype, held.device) != (like.dtype, like.device) or held.numel() < rows * columns:
            held = self._held[name] = torch.empty(rows * columns, dtype=like.dtype, device=like.device)
        return held[: rows * columns].view(rows, columns)


def info_nce(
    image: Rows, text: Rows, tau: float, half: bool = False, workspace: Workspace | None = None
) -> Float32[Any, ""]:
    """The loss of eq. 3.3 between rows of any length, differentiable in both arguments.

    Args:
        image: rows, normalised first; row i belongs to row i of ``text``.
        text: as many rows, normalised first.
        tau: the temperature τ > 0.
        half: multiply matrices in bfloat16, sum in float32. Where 1/τ > 40 the logits stay float32: three digits
            would not do.
        workspace: of earlier steps.

    Returns:
        A scalar; log n where all vectors are equal.
    """
    loss: torch.Tensor = _InfoNCE.apply(image, text, tau, half, workspace or Workspace())
    return loss


def info_nce_gradients(
    image: Rows, text: Rows, tau: float, half: bool, workspace: Workspace
) -> tuple[Float32[torch.Tensor, ""], Rows, Rows]:
    """The loss and its gradients by ``image`` and by ``text``; arguments as :func:`info_nce`."""
    sides = (image, text)
    lengths = [torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(SHORTEST) for rows in sides]
    units = [rows / length for rows, length in zip(sides, lengths, strict=True)]
    loss, *gradients = _between_units(units[0], units[1], tau, half, workspace)
    for gradient, unit, length in zip(gradients, units, lengths, strict=True):
        along = _dots(gradient, unit, workspace)[:, None]
        gradient.addcmul_(unit, along, value=-1).div_(length)  # what turns a row, not what lengthens it
    return loss, gradients[0], gradients[1]


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        loss, *gradients = info_nce_gradients(*arguments)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *scales: Any) -> Any:
        image, text = ctx.saved_tensors
        return scales[0] * image, scales[0] * text, None, None, None


def _between_units(
    image: torch.Tensor, text: torch.Tensor, tau: float, half: bool, workspace: Workspace
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, scaled = len(image), image / tau
    matrix = (_Logits if 1 / tau > STEEPEST else _Exponentials)(scaled, text, half, workspace)
    rows, columns = matrix.sums()
    to_image, to_text = matrix.products()
    loss = (rows.mean() + columns.mean()) / 2 - _dots(scaled, text, workspace).mean()
    return loss, to_image.sub_(text, alpha=2).div_(2 * n * tau), to_text.sub_(scaled, alpha=2).div_(2 * n)


def _dots(a: torch.Tensor, b: torch.Tensor, workspace: Workspace) -> torch.Tensor:
    return torch.mul(a, b, out=workspace.take("product", len(a), a.shape[1], a)).sum(1)


class _Matrix(ABC):
    """The n × n matrix of a batch: products by blocks of rows, everything else by slices of a block."""

    def __init__(
        self, scaled: torch.Tensor, text: torch.Tensor, half: bool, stored: torch.dtype, workspace: Workspace
    ) -> None:
        n, width = len(scaled), len(scaled) * stored.itemsize
        self._left, self._right = scaled.to(stored), text.to(stored)
        self._scaled, self._text = (rows.to(torch.bfloat16 if half else torch.float32) for rows in (scaled, text))
        self._block = min(n, max(1, workspace.memory // width))
        self._slice = min(self._block, max(1, SLICE_BYTES[scaled.device.type] // width))
        self._store = workspace.take("matrix", self._block, n, self._left)
        self._scratch = workspace.take("slice", self._slice, n, self._left)
        self._rows = torch.empty(n, device=scaled.device)
        self._columns = torch.empty(n, device=scaled.device)

    @abstractmethod
    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """log R and log C; makes the matrix for the first time."""

    @abstractmethod
    def _prepare(self, values: torch.Tensor) -> None:
        """Make of logits, in their place, what the matrix holds."""

    @abstractmethod
    def _weigh(self, rows: slice, values: torch.Tensor) -> None:
        """Make P + Q, in its place, of what the matrix holds."""

    def products(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(P + Q) T and (P + Q)ᵀ I / τ, in float32; once, after :meth:`sums`."""
        to_image = torch.empty_like(self._text, dtype=torch.float32)
        to_text = torch.zeros_like(to_image)
        for rows in _steps(0, len(to_image), self._block):
            block = self._store if self._block == len(to_image) else self._make(rows)
            for part in _steps(rows.start, rows.stop, self._slice):
                self._weigh(part, block[part.start - rows.start : part.stop - rows.start])
            if self._text.dtype == torch.float32:
                torch.mm(block, self._text, out=to_image[rows])
                to_text.addmm_(block.T, self._scaled[rows])
            else:
                weights = block.to(self._text.dtype)
                to_image[rows] = weights @ self._text
                to_text += (self._scaled[rows].T @ weights).T.contiguous()  # slow with the larger matrix transposed
        return to_image, to_text

    def _make(self, rows: slice) -> torch.Tensor:
        block = torch.mm(self._left[rows], self._right.T, out=self._store[: rows.stop - rows.start])
        for part in _steps(0, len(block), self._slice):
            self._prepare(block[part])
        return block

    def _made(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for rows in _steps(0, len(self._rows), self._block):
            block = self._make(rows)
            for part in _steps(0, len(block), self._slice):
                yield slice(rows.start + part.start, rows.start + part.stop), block[part]


class _Exponentials(_Matrix):
    """exp S, for the temperatures at which it cannot overflow."""

    def __init__(self, scaled: torch.Tensor, text: torch.Tensor, half: bool, workspace: Workspace) -> None:
        super().__init__(scaled, text, half, torch.bfloat16 if half else torch.float32, workspace)
        self._wide = workspace.take("wide", self._slice, len(scaled), scaled) if half else self._store

    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._columns.zero_()
        ones = torch.ones_like(self._columns)
        for rows, stored in self._made():
            values = stored if stored.dtype == torch.float32 else self._wide[: len(stored)].copy_(stored)
            torch.mv(values, ones, out=self._rows[rows])  # a product with ones is the fastest sum
            self._columns.addmv_(values.T, ones[: len(values)])
        logs = self._rows.log(), self._columns.log()
        self._rows, self._columns = (sums.reciprocal_().to(self._store.dtype) for sums in (self._rows, self._columns))
        return logs

    def _prepare(self, values: torch.Tensor) -> None:
        values.exp_()

    def _weigh(self, rows: slice, values: torch.Tensor) -> None:
        weights = torch.add(self._rows[rows, None], self._columns, out=self._scratch[: len(values)])
        values *= weights


class _Logits(_Matrix):
    """S in float32, for any temperature."""

    def __init__(self, scaled: torch.Tensor, text: torch.Tensor, half: bool, workspace: Workspace) -> None:
        super().__init__(scaled, text, half, torch.float32, workspace)

    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._columns.fill_(-torch.inf)
        for rows, values in self._made():
            self._rows[rows] = torch.logsumexp(values, 1)
            self._columns = torch.logaddexp(self._columns, torch.logsumexp(values, 0))
        return self._rows, self._columns

    def _prepare(self, values: torch.Tensor) -> None:
        pass

    def _weigh(self, rows: slice, values: torch.Tensor) -> None:
        of_columns = torch.sub(values, self._columns, out=self._scratch[: len(values)]).exp_()
        values.sub_(self._rows[rows, None]).exp_().add_(of_columns)


def _steps(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(low, min(low + step, stop)) for low in range(start, stop, step))
