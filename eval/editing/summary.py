"""From one number per answer to tables and trade-off figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from eval.editing.answers import Made
from eval.editing.cases import Case
from eval.editing.meters import Column
from eval.editing.published import beside
from eval.editing.settings import Setting
from eval.figures import Chart, Line, curves
from eval.intervals import Estimate
from eval.metrics.estimates import mean_of, median_of
from eval.tables import Cell, Table

Values = Float[np.ndarray, " n"]
PERCENT = 100
AUTOENCODER = "encode"
OUTSIDE = "outside"
UNET = "unet"
TRADE_OFFS = (("distance", "success"), ("change", "success"), (OUTSIDE, "success"), ("distance", "clip"))


@dataclass(frozen=True, eq=False)
class Measured:
    """What one setting came to, on cases of one kind.

    Attributes:
        setting, kind: which.
        cases, made: the questions and the answers.
        values: a number per answer under every column's name; NaN for answers that were refused.
        together: figures of all answers together, such as FID, by the metric's name.
    """

    setting: Setting
    kind: str
    cases: Sequence[Case]
    made: Sequence[Made]
    values: Mapping[str, Values]
    together: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The median time of an answer."""
        return float(np.median([one.seconds for one in self.made]))

    @property
    def inside(self) -> float | None:
        """The median share of that time inside the denoising network, where the backend tells it."""
        shares = [one.timings[UNET] / one.seconds for one in self.made if one.timings.get(UNET) and one.seconds]
        return float(np.median(shares)) if shares else None

    def estimate(self, column: Column, median: bool = False) -> Estimate | None:
        """A column's mean or median with its interval; numbers stand as hundredths, so that all are shown alike."""
        values = self.values.get(column.name)
        if values is None:
            return None
        return (median_of if median else mean_of)(values / (1 if column.share else PERCENT))


def edit_table(
    name: str,
    title: str,
    measured: Sequence[Measured],
    columns: Sequence[Column],
    published: Mapping[str, Mapping[str, float]],
    median: bool = False,
    note: str = "",
) -> Table:
    """One row per setting: means (or medians) with 95 % intervals, and the thesis's figures where they compare."""
    known = [column for column in columns if any(_known(one, column) for one in measured)]
    if median:  # that of a yes or no tells nothing
        known = [column for column in known if not all(_yes_or_no(one, column) for one in measured)]
    names = [*dict.fromkeys(name for one in measured for name in one.together)]
    theirs = [label for label in [*(c.label for c in known), *names] if _published(published, measured, label)]
    own = _own_error(measured)
    heads = ["Setting", "Edits", "Refused", *(column.label for column in known), *names]
    heads += ["× the autoencoder's own"] if own else []
    heads += ["Seconds", "in the UNet", *(f"{label} in the thesis" for label in theirs)]
    rows = []
    for one in measured:
        cells: list[Cell] = [one.setting.label, len(one.made), sum(m.refused is not None for m in one.made)]
        cells += [one.estimate(column, median) for column in known]
        cells += [one.together.get(label) for label in names]
        cells += [_ratio(one, own)] if own else []
        cells += [f"{one.seconds:.2f}", None if one.inside is None else f"{one.inside:.2f}"]
        cells += [beside(published, one.setting.variant, label) for label in theirs]
        rows.append(tuple(cells))
    return Table(name, title, tuple(heads), tuple(rows), note, decimals=2)


def trade_offs(
    name: str, title: str, measured: Sequence[Measured], columns: Sequence[Column], note: str = ""
) -> list[Chart]:
    """Success against distance over strength, all backends in one figure (thesis Figures 5.4, 5.7, 5.9).

    A backend without a strength is one point.
    """
    known = {column.name: column for column in columns if any(_known(one, column) for one in measured)}
    charts = []
    for x, y in TRADE_OFFS:
        if x in known and y in known:
            lines = _lines(measured, known[x], known[y])
            axes = (_axis(known[x]), _axis(known[y]))
            charts.append(curves(f"{name}-{y}-{x}", title, [line for line, _ in lines], axes, note=note))
            _annotate(charts[-1], lines)
    return charts


def _lines(measured: Sequence[Measured], x: Column, y: Column) -> list[tuple[Line, list[float | None]]]:
    variants: dict[str, list[tuple[float | None, Estimate, Estimate]]] = {}
    for one in measured:
        across, up = one.estimate(x), one.estimate(y)
        if across is not None and up is not None:
            variants.setdefault(one.setting.variant, []).append((one.setting.strength, across, up))
    found = []
    for variant, points in variants.items():
        points.sort(key=lambda point: point[0] or 0.0)
        line = Line(
            variant,
            [PERCENT * across.value for _, across, _ in points],
            [PERCENT * up.value for *_, up in points],
        )
        found.append((line, [strength for strength, *_ in points]))
    return found


def _annotate(chart: Chart, lines: Sequence[tuple[Line, list[float | None]]]) -> None:
    plot = chart.figure.axes[0]
    for line, strengths in lines:
        for x, y, strength in zip(line.x, line.y, strengths, strict=True):
            if strength is not None:
                plot.annotate(f"{strength:g}", (x, y), (4, 5), textcoords="offset points", fontsize=7, color="#555555")


def _axis(column: Column) -> str:
    return f"{column.label}, %" if column.share else column.label


def _known(one: Measured, column: Column) -> bool:
    values = one.values.get(column.name)
    return values is not None and not bool(np.isnan(values).all())


def _yes_or_no(one: Measured, column: Column) -> bool:
    values = one.values.get(column.name, np.empty(0))
    return bool(np.isin(values[~np.isnan(values)], (0, 1)).all())


def _published(figures: Mapping[str, Mapping[str, float]], measured: Sequence[Measured], label: str) -> bool:
    return any(beside(figures, one.setting.variant, label) is not None for one in measured)


def _own_error(measured: Sequence[Measured]) -> float | None:
    """Mean change outside the true mask by the autoencoder alone, where it was measured."""
    for one in measured:
        if one.setting.backend == AUTOENCODER and OUTSIDE in one.values:
            mean = float(np.nanmean(one.values[OUTSIDE]))
            return mean if mean > 0 else None
    return None


def _ratio(one: Measured, own: float | None) -> float | None:
    values = one.values.get(OUTSIDE)
    if own is None or values is None or bool(np.isnan(values).all()):
        return None
    return float(np.nanmean(values)) / own
