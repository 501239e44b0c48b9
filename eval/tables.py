"""A table of results: for people as Markdown or HTML, for programs as Parquet or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.intervals import Estimate
from simat.files import atomic, write_text

if TYPE_CHECKING:
    import pyarrow as pa

Cell = str | int | float | Estimate | None
"""A number stands as it is shown: a score in percent. An :class:`Estimate` is a share of 1, shown in percent."""


class Scale(float):
    """A value of λ: a cell that is shown as it was chosen, 0.75 and not 0.8."""


NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Attributes:
        name: of its files.
        title: what it shows.
        columns: their headings.
        rows: one cell per column.
        note: what a reader must know beside it.
        decimals: of its fractions.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    decimals: int = 1

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), f"{self.name}: a row of another length"

    def column(self, name: str) -> list[Cell]:
        """The cells under one heading."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def shown(self, cell: Cell) -> str:
        """A cell as text."""
        if isinstance(cell, Estimate):
            return cell.percent()
        if isinstance(cell, Scale):
            return f"{cell:g}"
        if isinstance(cell, float):
            return f"{cell:.{self.decimals}f}"
        return NOTHING if cell is None else str(cell)

    def markdown(self) -> str:
        """The table with its title and note."""
        lines = ["| " + " | ".join(self.shown(cell).replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        head = ["| " + " | ".join(self.columns) + " |", "|" + "|".join(["---"] * len(self.columns)) + "|"]
        note = ["", self.note] if self.note else []
        return "\n".join([f"### {self.title}", "", *head, *lines, *note]) + "\n"

    def html(self) -> str:
        """The table with its title and note, every text escaped, an interval below its score."""
        numbers = [all(not isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]
        kinds = [' class="number"' if number else "" for number in numbers]
        cells = [
            "".join(f"<td{kind}>{self._shown_html(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
            for row in self.rows
        ]
        head = "".join(f"<th{kind}>{_whole(escape(name))}</th>" for kind, name in zip(kinds, self.columns, strict=True))
        body = "\n".join(f"<tr>{row}</tr>" for row in cells)
        note = f'\n<p class="note">{escape(self.note)}</p>' if self.note else ""
        return (
            f'<h3>{escape(self.title)}</h3>\n<div class="wide"><table>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>{note}\n"
        )

    def _shown_html(self, cell: Cell) -> str:
        if not isinstance(cell, Estimate):
            return _whole(escape(self.shown(cell)))
        value, _, interval = cell.percent().partition(" ")
        return f"{value}<small>{interval}</small>"

    def records(self) -> list[dict[str, Any]]:
        """The rows as plain values; an estimate as its percentages under three names."""
        return [
            {
                name: value
                for column, cell in zip(self.columns, row, strict=True)
                for name, value in _plain(column, cell)
            }
            for row in self.rows
        ]

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        import pyarrow as pa

        records = self.records()
        names = [*dict.fromkeys(name for record in records for name in record)] or [*self.columns]
        return pa.table({name: _array([record.get(name) for record in records]) for name in names})

    def save(self, folder: Path) -> list[Path]:
        """Write ``NAME.md`` and ``NAME.parquet``."""
        import pyarrow.parquet as pq

        write_text(folder / f"{self.name}.md", self.markdown())
        with atomic(folder / f"{self.name}.parquet") as temporary:
            pq.write_table(self.arrow(), temporary)
        return [folder / f"{self.name}.md", folder / f"{self.name}.parquet"]


def _whole(text: str) -> str:
    """A text whose equations do not break."""
    return text.replace(" = ", "&nbsp;=&nbsp;")


def _plain(column: str, cell: Cell) -> Sequence[tuple[str, Any]]:
    if isinstance(cell, Estimate):
        return [(column, 100 * cell.value), (f"{column} low", 100 * cell.low), (f"{column} high", 100 * cell.high)]
    return [(column, cell)]


def _array(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    if any(isinstance(value, float) for value in values) and all(isinstance(v, float | int | None) for v in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values)
