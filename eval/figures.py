"""Charts: curves over λ or τ, scores of words, directions in a plane. The same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from simat.errors import SimatError
from simat.files import atomic

SIZE, DPI = (8.0, 5.2), 110  # inches, dots per inch
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#555555")  # Paul Tol's bright
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 12, "svg.hashsalt": "simat"}


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        label: in the legend.
        x: rising.
        y: one per x.
        colour: None takes the next one.
        low, high: ends of intervals, where there are any.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str | None = None
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Mark:
    """A single point, such as a published figure."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """A drawn figure.

    Attributes:
        name: of its file.
        title: what it shows.
        figure: matplotlib's.
        note: what a reader must know beside it.
    """

    name: str
    title: str
    figure: Any = field(repr=False)
    note: str = ""

    def png(self) -> bytes:
        """The picture; nothing in it depends on the time or the machine's settings."""
        import io

        stream = io.BytesIO()
        with _matplotlib().rc_context(STYLE):
            self.figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()

    def save(self, path: Path) -> Path:
        """Write the PNG, whole or not at all.

        Raises:
            SimatError: the folder is missing.
        """
        if not path.parent.is_dir():
            raise SimatError("no such folder", got=str(path.parent))
        with atomic(path) as temporary:
            temporary.write_bytes(self.png())
        return path


def curves(
    name: str,
    title: str,
    lines: Sequence[Line],
    axes: tuple[str, str],
    marks: Sequence[Mark] = (),
    logarithmic: bool = False,
    note: str = "",
) -> Chart:
    """Curves over one quantity, with intervals as bands and published figures as stars."""
    figure, plot = _blank(title, axes)
    for number, line in enumerate(lines):
        colour = line.colour or PALETTE[number % len(PALETTE)]
        plot.plot(line.x, line.y, marker="o", markersize=4, linewidth=1.8, color=colour, label=line.label)
        if len(line.low):
            plot.fill_between(line.x, line.low, line.high, color=colour, alpha=0.25, linewidth=0)
    for mark in marks:
        plot.plot([mark.x], [mark.y], marker="*", markersize=13, color="#222222", linestyle="none", label=mark.label)
    if logarithmic:
        plot.set_xscale("log")
        ticks = sorted({x for line in lines for x in line.x})
        plot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        plot.minorticks_off()
    plot.set_ylim(bottom=0)
    if lines or marks:
        plot.legend(fontsize=9, framealpha=0.9)
    return Chart(name, title, figure, note)


def words(
    name: str, title: str, groups: Mapping[str, Sequence[tuple[str, float, float]]], axes: tuple[str, str], note: str
) -> Chart:
    """Labelled points of several groups, such as words by weight and score (thesis, Figure 3.7).

    Args:
        groups: (label, x, y) of the points of each group.
    """
    figure, plot = _blank(title, axes, (10.0, 7.0))
    colours = dict(zip(groups, ("#cc3344", "#3366cc", "#8844aa", *PALETTE), strict=False))
    for group, points in groups.items():
        plot.scatter([p[1] for p in points], [p[2] for p in points], s=22, color=colours[group], label=group, zorder=3)
    if any(x > 0 for points in groups.values() for _, x, _ in points):
        plot.set_xscale("log")
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        plot.xaxis.set_minor_formatter(NullFormatter())
    top = max((y for points in groups.values() for _, _, y in points), default=100.0)
    plot.set_ylim(-0.04 * max(top, 1), 1.08 * max(top, 1))
    _label(plot, groups, colours)
    plot.legend(fontsize=10, framealpha=0.9)
    return Chart(name, title, figure, note)


def _label(plot: Any, groups: Mapping[str, Sequence[tuple[str, float, float]]], colours: Mapping[str, str]) -> None:
    """Write the labels that have room, the highest points first; a label on another helps nobody."""
    taken: list[tuple[float, float, float]] = []
    points = sorted((-y, x, label, group) for group, found in groups.items() for label, x, y in found)
    for below, x, label, group in points:
        left, bottom = plot.transData.transform((x, -below))
        right = left + 6.5 * len(label) + 8
        if all(right < other[0] or left > other[1] or abs(bottom - other[2]) > 11 for other in taken):
            taken.append((left, right, bottom))
            style = {"textcoords": "offset points", "fontsize": 8, "color": colours[group]}
            plot.annotate(label, (x, -below), (3, 3), **style)


def arrows(
    name: str,
    title: str,
    points: Mapping[str, Float[np.ndarray, " 2"]],
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    axes: tuple[str, str],
    note: str = "",
) -> Chart:
    """Words in a plane, with an arrow for every pair of a relation."""
    figure, plot = _blank(title, axes, (9.0, 6.6))
    named = {word for found in pairs.values() for pair in found for word in pair}
    for word, (x, y) in points.items():
        known = word in named
        plot.scatter([x], [y], s=22 if known else 8, color="#333333" if known else "#bbbbbb", zorder=3 if known else 2)
        style = {"fontsize": 10, "color": "#111111"} if known else {"fontsize": 6, "color": "#aaaaaa"}
        plot.annotate(word, (x, y), (4, 4), textcoords="offset points", zorder=5 if known else 2, **style)
    for number, (relation, found) in enumerate(pairs.items()):
        colour = PALETTE[number % len(PALETTE)]
        for source, target in found:
            style = {"arrowstyle": "->", "color": colour, "linewidth": 1.6}
            plot.annotate("", points[target], points[source], arrowprops=style, zorder=4)
        plot.plot([], [], color=colour, linewidth=1.6, label=relation)
    if pairs:
        plot.legend(fontsize=9, framealpha=0.9)
    return Chart(name, title, figure, note)


def histogram(
    name: str, title: str, samples: Mapping[str, Float[np.ndarray, " n"]], axes: tuple[str, str], note: str = ""
) -> Chart:
    """Distributions of several samples on one axis, each of area 1."""
    figure, plot = _blank(title, axes)
    low = min((float(sample.min()) for sample in samples.values()), default=0.0)
    high = max((float(sample.max()) for sample in samples.values()), default=1.0)
    bins = np.linspace(low, max(high, low + 1e-6), 61)
    for colour, (label, sample) in zip(PALETTE, samples.items(), strict=False):
        plot.hist(sample, bins=bins, density=True, histtype="stepfilled", alpha=0.35, color=colour, label=label)
        plot.axvline(float(sample.mean()), color=colour, linewidth=1.5, linestyle="--")
    plot.legend(fontsize=10, framealpha=0.9)
    return Chart(name, title, figure, note)


def _blank(title: str, axes: tuple[str, str], size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    matplotlib = _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        plot = figure.add_subplot()
        plot.set_title(title)
        plot.set_xlabel(axes[0])
        plot.set_ylabel(axes[1])
        plot.grid(alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)
    return figure, plot


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise SimatError("charts need matplotlib", remedy="pip install 'simat[plot]'") from error
    return matplotlib
