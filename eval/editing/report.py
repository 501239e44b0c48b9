"""Measure the answers of a run and write its report: tables, figures, sheets of examples, one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.editing.answers import Made, Store, answered
from eval.editing.cases import EditCase
from eval.editing.meters import columns_of, measure, pictures_of
from eval.editing.settings import Setting
from eval.editing.sheets import example_sheet, successes
from eval.editing.summary import Measured, edit_table, trade_offs
from eval.figures import Chart
from eval.tables import Table
from simat.errors import StorageError
from simat.files import atomic, write_text
from simat.progress import Progress, Silent
from simat.sheet import save_sheet

if TYPE_CHECKING:
    from eval.editing.protocols import EditProtocol

PAGE, ANSWERS_TABLE, CONFIGURATION = "report.md", "answers.parquet", "configuration.json"
AT_ONCE = 64  # answers that are measured together


@dataclass(frozen=True, eq=False)
class Report:
    """What a run came to.

    Attributes:
        measured: every setting on every kind of case.
        tables, charts: what is shown of it.
    """

    measured: Sequence[Measured]
    tables: Sequence[Table]
    charts: Sequence[Chart]

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Every table as plain records, by name."""
        return {table.name: table.records() for table in self.tables}


def measure_edits(
    protocol: EditProtocol,
    settings: Sequence[Setting],
    store: Store,
    model: str,
    seed: int,
    progress: Progress | None = None,
) -> list[Measured]:
    """Every setting on every kind of edits, with what was answered so far by a model from a seed.

    Raises:
        StorageError: nothing was.
    """
    bars, found = progress or Silent(), []
    kinds = [*dict.fromkeys(case.kind for case in protocol.cases)]
    reals = protocol.reals() if protocol.reals is not None else None
    bars.start("measures", len(kinds) * len(settings), "settings")
    for kind in kinds:
        for setting in settings:
            cases, made = answered(store, setting, protocol.cases, model, seed)
            rows = [n for n, case in enumerate(cases) if case.kind == kind]
            chosen, theirs = [cases[n] for n in rows], [made[n] for n in rows]
            bars.advance(1)
            if not chosen:
                continue
            edits = [case for case in chosen if isinstance(case, EditCase)]
            values = _in_parts(protocol, edits, theirs)
            shown = [one for one in theirs if one.refused is None]
            targets = [c.target[1] for c, one in zip(edits, theirs, strict=True) if c.target and one.refused is None]
            together = reals.distances(pictures_of(shown), targets) if reals is not None and len(shown) > 1 else {}
            found.append(Measured(setting, kind, chosen, theirs, values, together))
    if not found:
        raise StorageError("no answer is there yet", got=str(store.folder))
    return found


def edit_report(protocol: EditProtocol, measured: Sequence[Measured]) -> Report:
    """Tables and figures of edits, kind by kind."""
    tables, charts, columns = [], [], columns_of(protocol.meters)
    for kind in dict.fromkeys(one.kind for one in measured):
        of_kind = [one for one in measured if one.kind == kind]
        title = f"{protocol.name}: edits of kind {kind}" if kind != protocol.name else f"{protocol.name}: edits"
        tables.append(edit_table(f"edits-{kind}", f"{title}, means", of_kind, columns, protocol.published,
                                 note=protocol.note))  # fmt: skip
        tables.append(edit_table(f"edits-{kind}-medians", f"{title}, medians", of_kind, columns, {}, median=True))
        charts += trade_offs(f"edits-{kind}", title, of_kind, columns)
    return Report(measured, tables, charts)


def write_report(
    report: Report, store: Store, configuration: Mapping[str, Any], sheets: Sequence[Sequence[Measured]] = ()
) -> None:
    """Write everything into the folder of the run; nothing in it depends on the time of writing.

    Args:
        sheets: groups of settings to show side by side; examples are chosen by what the first of a group solved.
    """
    names = []
    for table in report.tables:
        table.save(store.folder)
    for chart in report.charts:
        chart.save(store.folder / f"{chart.name}.png")
    for group in sheets:
        names += _save_sheets(store, group)
    _save_answers(report.measured, store.folder / ANSWERS_TABLE)
    write_text(store.folder / CONFIGURATION, json.dumps(configuration, indent=1, default=str) + "\n")
    write_text(store.folder / PAGE, _page(report, names))


def beside_each_other(measured: Sequence[Measured], strength: float) -> list[list[Measured]]:
    """For each kind, every backend without extra settings, at the strength nearest to one."""
    groups: dict[str, dict[str, Measured]] = {}
    for one in measured:
        group, setting = groups.setdefault(one.kind, {}), one.setting
        known = group.get(setting.variant)
        gap = abs((setting.strength or 0.0) - strength)
        if not setting.options and (known is None or gap < abs((known.setting.strength or 0.0) - strength)):
            group[setting.variant] = one
    return [[*group.values()] for group in groups.values()]


def _in_parts(protocol: EditProtocol, cases: Sequence[EditCase], made: Sequence[Made]) -> dict[str, np.ndarray]:
    parts = [
        measure(protocol.meters, cases[start : start + AT_ONCE], made[start : start + AT_ONCE])
        for start in range(0, len(cases), AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _save_sheets(store: Store, group: Sequence[Measured]) -> list[str]:
    solved, failed = successes(group[0])
    chosen = {"successes": solved, "failures": failed}
    if not solved and not failed:  # nobody judged single answers, as of layouts
        chosen = {"examples": [*range(len(group[0].cases))]}
    names = []
    for word, numbers in chosen.items():
        if numbers:
            name = f"{word}-{group[0].kind}.png"
            heading = f"{word.capitalize()} of {group[0].setting.label}, {group[0].kind}"
            save_sheet(example_sheet(heading, group, numbers), store.folder / name)
            names.append(name)
    return names


def _save_answers(measured: Sequence[Measured], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {}
    names = [*dict.fromkeys(name for one in measured for name in one.values)]
    for one in measured:
        for number, (case, made) in enumerate(zip(one.cases, one.made, strict=True)):
            row = {
                "setting": one.setting.label, "backend": one.setting.backend, "strength": one.setting.strength,
                "kind": one.kind, "case": case.key, "title": case.title, "refused": made.refused,
                "seconds": made.seconds,
                **{name: float(one.values[name][number]) if name in one.values else None for name in names},
            }  # fmt: skip
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _page(report: Report, sheets: Sequence[str]) -> str:
    parts = [table.markdown() for table in report.tables]
    parts += [f"![{chart.title}]({chart.name}.png)\n" for chart in report.charts]
    parts += [f"![{name}]({name})\n" for name in sheets]
    return "\n".join(parts)
