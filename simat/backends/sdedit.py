"""SDEdit and Encode-Decode: the whole picture is denoised with another text; baselines of thesis chapter 5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simat.backends.diffedit import DiffEdit, one_noise
from simat.backends.editing import Editor, Job
from simat.types import Accepts

if TYPE_CHECKING:
    import torch


class Everywhere(Editor):
    """An editor whose mask is full."""

    accepts = Accepts(frozenset({"image"}), frozenset({"text", "edits", "reference", "strength", "seed", "samples"}))

    def soft_masks(self, job: Job) -> torch.Tensor:
        """One everywhere."""
        import torch

        return torch.ones((len(job.samples), *job.latents.shape[-2:]), device=job.model.device)

    def chosen(self, job: Job, soft: torch.Tensor) -> torch.Tensor:
        """True everywhere."""
        return soft > 0


class SdEdit(Everywhere):
    """The entry point ``sdedit`` (Meng et al. 2021): noise to r, denoise with the text."""

    name = "sdedit"

    def background(self, job: Job, samples: Sequence[int]) -> torch.Tensor:
        """The picture mixed with one noise per sample."""
        return one_noise(job, samples)


class EncodeDecode(Everywhere):
    """The entry point ``encode_decode``: invert to r, decode with the text; DiffEdit with a full mask."""

    name = "encode_decode"
    background = DiffEdit.background
