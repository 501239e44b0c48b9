"""``simat index tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simat.cli.console import console, print_json, progress
from simat.files import human

if TYPE_CHECKING:
    from indexing.tune import Tuned


def tune(
    index: Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)],
    recall: Annotated[float, typer.Option(help="recall@10 wanted.")] = 0.95,
    queries: Annotated[int, typer.Option(help="Images to search for; half of them choose.")] = 256,
    plot: Annotated[Path | None, typer.Option(help="PNG file for a picture.", show_default="INDEX/tuning.png")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Let the index be searched with what is chosen.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure recall, time and memory of an index under settings from fast to exact, and choose one."""
    from indexing.tune import tune_index
    from indexing.tuning_figure import check_picture, draw_frontier
    from simat.manifest import read_index_manifest

    read_index_manifest(index)
    picture = plot or index / "tuning.png"
    check_picture(picture)
    with progress() as bars:
        tuned = tune_index(index, recall, queries, progress=bars, apply=apply)
    draw_frontier(tuned, recall, picture)
    if json:
        print_json({**tuned.document(), "picture": str(picture), "applied": apply})
    else:
        _print(tuned, recall, picture, apply)


def _print(tuned: Tuned, target: float, picture: Path, applied: bool) -> None:
    out, frontier = console(), tuned.frontier()
    out.print("  recall@10     p50     p90    memory  re-read  setting (* nothing quicker finds more)", markup=False)
    for setting in tuned.settings:
        mark = "*" if setting in frontier else " "
        out.print(
            f"{mark} {setting.recall:9.4f} {setting.p50_ms:7.2f} {setting.p90_ms:7.2f} {human(setting.memory):>9} "
            f"{human(setting.reread):>8}  {_words(setting.search)}",
            markup=False,
            highlight=False,
        )
    chosen = tuned.chosen
    verb = "applied" if applied else "chosen"
    out.print(
        f"{verb}: {_words(chosen.search)} · recall@10 {tuned.recall['recall@10']:.4f} on {tuned.recall['queries']} "
        f"other queries · {chosen.p50_ms:.2f} ms",
        markup=False,
    )
    if not tuned.reached:
        out.print(f"no setting reaches {target}: build it with a finer --factory", markup=False)
    if not applied and chosen.search != tuned.now:
        out.print(f"the index has: {_words(tuned.now)}; --apply changes that", markup=False)
    out.print(f"picture: {picture}", markup=False)


def _words(search: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in search.items()) or "exact"
