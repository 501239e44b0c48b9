"""The frontier of an index as a picture: recall against time, one line per number of candidates scored again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from indexing.tune import Setting, Tuned
from simat.errors import SimatError
from simat.files import atomic, human
from simat.searcher import RERANK


def check_picture(path: Path) -> None:
    """Refuse what :func:`draw_frontier` would refuse once everything is measured.

    Raises:
        SimatError: matplotlib is not installed, or there is no such folder.
    """
    if find_spec("matplotlib") is None:
        raise SimatError("charts need matplotlib", remedy="pip install 'simat[plot]'")
    if not path.parent.is_dir():
        raise SimatError("no such folder", got=str(path.parent))


def draw_frontier(tuned: Tuned, target: float, path: Path) -> None:
    """Draw what :func:`indexing.tune.tune_index` found.

    Raises:
        SimatError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for times in dict.fromkeys(setting.search.get(RERANK, 0) for setting in tuned.settings):
        _line(axes, [s for s in tuned.settings if s.search.get(RERANK, 0) == times], times)
    axes.axhline(target, color="grey", linestyle=":", linewidth=1)
    chosen = tuned.chosen
    axes.plot(chosen.p50_ms, chosen.recall, "o", markersize=13, markerfacecolor="none", color="black", label="chosen")
    axes.set(
        xscale="log",
        xlabel="median time of a query, ms",
        ylabel="recall@10",
        title=f"{human(chosen.memory)} of shards",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    try:
        with atomic(path) as temporary:
            FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=150)
    except OSError as error:
        raise SimatError("cannot write the picture", got=f"{path}: {error.strerror}") from error


def _line(axes: Any, settings: list[Setting], times: int) -> None:
    label = f"{times}·k candidates scored again" if times else "scores of the codes"
    axes.plot([s.p50_ms for s in settings], [s.recall for s in settings], marker=".", label=label)
    for setting in settings:
        effort = [str(value) for name, value in setting.search.items() if name != RERANK]
        if effort:
            axes.annotate(
                effort[0],
                (setting.p50_ms, setting.recall),
                xytext=(3, -9),
                textcoords="offset points",
                fontsize=7,
                color="grey",
            )
