"""Seconds per edit of every editor on the model of the scene world, warm: the median of rounds over drawn scenes.

Each picture is new, so that nothing is inverted before its turn; ``again`` asks the same picture for another text.
Next to the wall clock stand CPU seconds, which other work on the machine changes less, the share of the wall clock that
passes inside the denoising network, and the peak memory of the process.
"""

from __future__ import annotations

import resource
import time
from typing import Any

from benchmarks.common import Facts, median, parser, run
from data.scenes.captions import captions
from data.scenes.render import render
from data.scenes.scene import sample

EDITORS = ("diffedit", "diffedit_no_encoding", "encode_decode", "sdedit", "encode")
WORLD = 900
TRIPLET = ("cat", "riding", "skateboard")


def measure(arguments: Any) -> Facts:
    """Medians by editor."""
    import simat

    studio = simat.studio("scenes", device=arguments.device, dtype=arguments.dtype)
    facts: Facts = {"dtype": str(studio.diffusion.dtype).removeprefix("torch.")}
    for editor in arguments.editors.split(","):
        numbers = range(arguments.rounds + 1)  # the first round warms up
        facts[editor] = _medians([_edited(studio, editor, number, "cat -> dog") for number in numbers][1:])
        if editor == "diffedit":
            facts["again"] = _medians([_edited(studio, editor, number, "cat -> bird") for number in numbers][1:])
    facts["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return facts


def _edited(studio: Any, editor: str, number: int, edits: str) -> dict[str, float]:
    from simat.types import Query

    scene = sample(WORLD, number + 100 * EDITORS.index(editor), TRIPLET)
    query = Query(image=render(scene, studio.diffusion.size).image, edits=edits, reference=captions(scene)[1])
    started = time.process_time()
    timings = studio.answer(query, editor).timings
    return {"total": timings["total"], "unet": timings["unet"], "cpu": time.process_time() - started}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    found = {name: median([timings[name] for timings in rounds]) for name in ("total", "cpu")}
    share = median([timings["unet"] / timings["total"] for timings in rounds])
    return {"seconds": round(found["total"], 2), "cpu_seconds": round(found["cpu"], 2), "unet_share": round(share, 3)}


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--editors", default=",".join(EDITORS), help="separated by commas")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--dtype", default="auto")
    run(arguments, measure)
