"""The SIMAT score of a method in a space: λ chosen on dev, reported apart from λ = 1, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.figures import Chart, Line, curves
from eval.intervals import Estimate, difference, estimate
from eval.methods import Method, Setting
from eval.scales import NATURAL, SCALES, Curve, check_scales
from eval.simat_score import FIELDS, Score, Task, chance, score
from eval.tables import Cell, Scale, Table


@dataclass(frozen=True, eq=False)
class Outcome:
    """A method measured.

    Attributes:
        method: what was measured.
        task: the queries that the scores are of.
        dev: the curve over λ that the choice rests on.
        scores: by (λ, n).
    """

    method: Method
    task: Task
    dev: Curve
    scores: Mapping[tuple[float, int], Score]

    @property
    def chosen(self) -> float:
        """λ chosen on dev."""
        return self.dev.best

    def score(self, scale: float, k: int = 1) -> Score:
        """The score at λ for the best of k images."""
        return self.scores[scale, k]

    def estimate(self, setting: Setting, scale: float, k: int = 1) -> Estimate:
        """The score with its interval."""
        return estimate(self.score(scale, k).success, self.task, setting.bench.rng())


def curve(setting: Setting, method: Method, task: Task, scales: Sequence[float] = SCALES, k: int = 1) -> Curve:
    """The scores of a method over λ."""
    rising = check_scales(scales) if method.scaled else (NATURAL,)
    found = method.find(setting, task, rising, k)
    return Curve(rising, tuple(score(one, task, setting.bench.oracle.judge) for one in found))


def measure(
    setting: Setting,
    method: Method,
    task: Task,
    scales: Sequence[float] = SCALES,
    ks: Sequence[int] = (1, 5),
    also: Sequence[float] = (),
) -> Outcome:
    """Choose λ on dev for n = 1, then score at it and at λ = 1.

    Args:
        setting: space and bench.
        method: what to measure.
        task: the queries to report on.
        scales: the values of λ to choose from.
        ks: numbers of images to look at.
        also: further values of λ to score at.

    Raises:
        QueryError: no queries in dev, or k out of range.
    """
    dev = curve(setting, method, setting.bench.dev, scales)
    wanted = check_scales([NATURAL, dev.best, *also]) if method.scaled else (NATURAL,)
    found = method.find(setting, task, wanted, max(ks))
    scores = {
        (scale, k): score(found[number, :, :k], task, setting.bench.oracle.judge)
        for k in ks
        for number, scale in enumerate(wanted)
    }
    return Outcome(method, task, dev, scores)


def outcome_table(setting: Setting, outcomes: Sequence[Outcome], ks: Sequence[int], domain: str) -> Table:
    """One row per method and λ, and what chance would score."""
    rows: list[tuple[Cell, ...]] = []
    for outcome in outcomes:
        for scale, why in _reported(outcome):
            estimates = [outcome.estimate(setting, scale, k) for k in ks]
            by_field = outcome.score(scale, ks[0]).by_field
            shown = [100 * by_field[name] if name in by_field else None for name in FIELDS]
            rows.append(
                (outcome.method.title, why, Scale(scale) if outcome.method.scaled else None, *estimates, *shown)
            )
    if setting.bench.oracle.cheap:
        task, judge = outcomes[0].task, setting.bench.oracle.judge
        expected = [100 * chance(task, judge, len(setting.images), k) for k in ks]
        rows.append(("Chance", None, None, *expected, *[None] * len(FIELDS)))
    columns = ("Method", "λ is", "λ", *(f"n = {k}" for k in ks), *FIELDS)
    note = (
        f"{len(outcomes[0].task):,} queries of the domain {domain}; oracle: {setting.bench.oracle.name}; "
        f"95 % intervals by bootstrap over images; fields for n = {ks[0]}."
    )
    return Table("simat", f"SIMAT score in {setting.space.name}", columns, tuple(rows), note)


def outcome_chart(setting: Setting, outcomes: Sequence[Outcome]) -> Chart:
    """The dev scores over λ, a curve per method; those without λ as a level line."""
    scales = sorted({scale for outcome in outcomes for scale in outcome.dev.scales})
    lines = []
    for outcome in outcomes:
        scaled = outcome.method.scaled
        places = outcome.dev.scales if scaled else (scales[0], scales[-1])
        values = outcome.dev.values if scaled else outcome.dev.values * 2
        lines.append(Line(outcome.method.title, places, [100 * value for value in values]))
    title = f"SIMAT score over λ, dev: {setting.space.name}"
    return curves("simat", title, lines, ("λ", "SIMAT score [%]"))


def margin(setting: Setting, better: Outcome, plain: Outcome) -> Estimate:
    """How far ``better`` at its chosen λ stands above ``plain`` at λ = 1, n = 1, on the same queries."""
    first, second = better.score(better.chosen), plain.score(NATURAL)
    return difference(first.success, second.success, plain.task, setting.bench.rng())


def _reported(outcome: Outcome) -> list[tuple[float, str | None]]:
    if not outcome.method.scaled:
        return [(NATURAL, None)]
    return [(NATURAL, "fixed"), (outcome.chosen, "chosen on dev")]
