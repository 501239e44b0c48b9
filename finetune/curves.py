"""Pictures of trainings: loss and recall by epoch, recall by temperature; drawn by matplotlib, the extra ``plot``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.config import TrainError
from simat.files import atomic

NAME = "curves.png"
WAYS = {"text_to_image": "image retrieval", "image_to_text": "text retrieval"}


def check_plots() -> None:
    """Refuse early what cannot be drawn later.

    Raises:
        TrainError: matplotlib is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise TrainError("plots need matplotlib", remedy="install it with: pip install 'simat[plot]'")


def plot_curve(path: Path, curve: Sequence[dict[str, Any]], title: str) -> None:
    """Write a PNG of the loss, and of recall both ways where it was measured, by epoch."""
    figure, (left, right) = _panels()
    trained = [point for point in curve if point["loss"] is not None]
    left.plot([point["epoch"] for point in trained], [point["loss"] for point in trained], color="black")
    left.set(xlabel="epoch", ylabel="loss")
    for way, name in WAYS.items():
        for number, k in enumerate(curve[0].get(way, {})):
            values = [100 * point[way][k] for point in curve]
            stroke = {"color": f"C{number}", "linestyle": "-" if way == "text_to_image" else "--"}
            right.plot([point["epoch"] for point in curve], values, label=f"{name} R@{k}", **stroke)
    right.set(xlabel="epoch", ylabel="recall, %")
    _save(figure, path, title)


def plot_loss(path: Path, history: Sequence[dict[str, Any]], title: str) -> None:
    """Write a PNG of the loss by step, on a logarithmic axis."""
    check_plots()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    panel = figure.subplots()
    panel.plot([point["step"] for point in history], [point["loss"] for point in history], color="black", linewidth=1)
    panel.set(xlabel="step", ylabel="loss", yscale="log")
    _save(figure, path, title)


def plot_sweep(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of the recalls of :func:`finetune.sweep.sweep` by temperature, on a logarithmic axis."""
    figure, (left, right) = _panels()
    for way, panel in zip(WAYS, (left, right), strict=True):
        for k in (1, 5, 10):
            points = [(row["tau"], 100 * row[name]) for row in rows if (name := f"{way}_r{k}") in row]
            if points:
                panel.plot(*zip(*points, strict=True), "o-", label=f"{WAYS[way]} R@{k}")
        panel.set(xlabel="τ", ylabel="recall, %", xscale="log")
        panel.minorticks_off()  # their labels would run into each other
        panel.set_xticks([row["tau"] for row in rows], [f"{row['tau']:g}" for row in rows])
    _save(figure, path, "recall by temperature")


def _panels() -> Any:
    check_plots()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    return figure, figure.subplots(1, 2)


def _save(figure: Any, path: Path, title: str) -> None:
    for panel in figure.axes:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
