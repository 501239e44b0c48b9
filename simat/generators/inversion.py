"""Inverted pictures, kept: the latents of a picture at every level, from the image towards noise.

DDIM encoding with the empty text and no guidance (thesis 5.3.2, step 2). It depends on the picture, the model and the
schedule, not on what is asked, and what reaches a high level has passed all lower ones: so one trajectory per picture
serves every text and every strength. Imported only with torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import torch
from jaxtyping import Float32
from PIL.Image import Image

from simat.generators.model import Diffusion
from simat.generators.running import Run
from simat.generators.schedule import Schedule, up

KEPT = 32  # trajectories: of a 512 px picture, 3 MiB each

Latents = Float32[torch.Tensor, "n c h w"]
Key = tuple[str, int, tuple[int, ...]]


class Trajectories:
    """The last inversions; safe to share between threads.

    Args:
        kept: how many; the one not used for the longest time goes first.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept, self._lock = kept, threading.Lock()
        self._known: OrderedDict[Key, list[Latents]] = OrderedDict()

    def latents(self, model: Diffusion, picture: Image, run: Run) -> Latents:
        """x0 of a picture of the model's size, encoded once; [1, c, h, w]."""
        return self._levels(self._key(model, picture, ()), model, picture, run)[0]

    @torch.no_grad()
    def inverted(self, model: Diffusion, picture: Image, schedule: Schedule, level: int, run: Run) -> Latents:
        """The trajectory of a picture up to a level; only the levels that are not known yet are computed.

        Returns:
            [level + 1, c, h, w]; row j is the latent at level j of the schedule, row 0 is x0.

        Raises:
            Cancelled: asked for in between; what was computed is kept.
        """
        known = self._levels(self._key(model, picture, schedule.timesteps), model, picture, run)
        missing = range(len(known), level + 1)
        if missing:
            empty = model.embed([""])
            for j in run.steps("invert", missing, lambda: model.preview(known[-1])):
                noise = model.noise(known[-1], schedule.timestep(j), empty)
                known.append(up(schedule, known[-1], noise, j))
        return torch.cat(known[: level + 1])

    def _levels(self, key: Key, model: Diffusion, picture: Image, run: Run) -> list[Latents]:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            other = next((levels for known, levels in self._known.items() if known[:2] == key[:2]), None)
        if other is None:
            with run.stage("encode"):
                first = model.encode([picture])
        with self._lock:
            levels = self._known.setdefault(key, [first if other is None else other[0]])
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        return levels

    def _key(self, model: Diffusion, picture: Image, timesteps: tuple[int, ...]) -> Key:
        return hashlib.sha256(picture.tobytes()).hexdigest(), id(model), timesteps
