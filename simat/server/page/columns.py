"""Several backends side by side: where each of them is, and what it has made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from PIL.Image import Image

from simat.errors import SimatError
from simat.overlays import edited_places, layout_picture
from simat.server.page.cards import ACTIONS, cards, duration, icon, problem
from simat.server.page.pictures import png_url, shown_url
from simat.types import Answer, Result, Step

State = Literal["waiting", "running", "done", "failed", "cancelled"]
TITLES = {
    "retrieve": "Found in the index",
    "flexit": "FlexIT",
    "diffedit": "DiffEdit",
    "sdedit": "SDEdit",
    "zestguide": "ZestGuide",
    "pww": "Paint-with-words",
    "multidiffusion": "MultiDiffusion",
}
STAGES = {
    "load": "loading the models",
    "encode": "reading the picture",
    "mask": "finding where to edit",
    "invert": "going back to noise",
    "decode": "painting",
    "optimise": "optimising",
    "search": "searching",
}


@dataclass
class Column:
    """One backend at work.

    Attributes:
        backend: its name.
        state: how far it is.
        step: its latest progress.
        answer: once it is done.
        error: once it has failed.
    """

    backend: str
    state: State = "waiting"
    step: Step | None = None
    answer: Answer | None = None
    error: SimatError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in {"done", "failed", "cancelled"}


@dataclass(frozen=True)
class Home:
    """Where found pictures live: the name of the index and the root of its images."""

    index: str
    root: Path


def title_of(backend: str) -> str:
    """What a backend is called on the page."""
    return TITLES.get(backend, backend.replace("_", " ").capitalize())


def columns_html(columns: Sequence[Column], home: Home | None) -> str:
    """All columns, side by side where there is room."""
    inside = "".join(_column(column, home) for column in columns)
    return f'<div class="columns" data-count="{len(columns)}">{inside}</div>'


def _column(column: Column, home: Home | None) -> str:
    return (
        f'<section class="column" data-state="{column.state}" data-backend="{escape(column.backend)}">'
        f'<header><h3>{escape(title_of(column.backend))}</h3><span class="state" role="status">{_told(column)}</span>'
        f"</header>{_bar(column)}{_body(column, home)}</section>"
    )


def _told(column: Column) -> str:
    if column.state == "done" and column.answer is not None:
        spent = column.answer.timings
        return duration(spent.get("total", sum(spent.values(), 0.0)))
    if column.state == "running" and column.step is not None:
        stage = STAGES.get(column.step.stage, column.step.stage)
        return f"{escape(stage)} · {column.step.step} of {column.step.total}"
    return {"waiting": "waiting", "running": "starting", "failed": "not possible", "cancelled": "cancelled"}.get(
        column.state, ""
    )


def _bar(column: Column) -> str:
    if column.ended:
        return ""
    label = f'aria-label="Progress of {escape(title_of(column.backend))}"'
    if column.state == "waiting" or column.step is None:
        empty = "" if column.state == "running" else ' value="0"'
        return f"<progress{empty} {label}></progress>"
    return f'<progress value="{column.step.step}" max="{column.step.total}" {label}></progress>'


def _body(column: Column, home: Home | None) -> str:
    if column.error is not None:
        return problem(column.error)
    if column.answer is not None:
        return _answer(column.answer, home)
    if column.state == "cancelled":
        return '<div class="note"><p>Stopped. Nothing was kept.</p></div>'
    if column.step is not None and column.step.preview is not None:
        seen = f'<img class="preview" alt="" src="{shown_url(column.step.preview)}">'
    else:
        seen = '<div class="ghost"></div>'
    return f'<figure class="stack" aria-hidden="true"><div class="views">{seen}</div></figure>'


def _answer(answer: Answer, home: Home | None) -> str:
    if home is not None and any(result.id is not None for result in answer.results):
        return cards(answer.results, home.index, home.root, "edit")
    places, source, overlaps = edited_places(answer), answer.extras.get("input"), _overlaps(answer)
    layout = _layout(answer)
    figures = []
    for number, result in enumerate(answer.results):
        if result.image is None:
            continue
        views = {"Result": result.image, "Where": places[number] if number < len(places) else None}
        others = {**views, "Before": source, "Layout": layout}
        figures.append(_figure(answer.backend, number, result, others, overlaps[number] if overlaps else ""))
    return "".join(figures)


def _figure(backend: str, number: int, result: Result, views: dict[str, Image | None], told: str) -> str:
    shown = {name: picture for name, picture in views.items() if picture is not None}
    group, file = f"{backend}-{number}", f"{backend}-{number + 1}.png"
    caption = result.caption or title_of(backend)
    pictures, switches = [], []
    for name, picture in shown.items():
        made = name == "Result"
        url = png_url(picture) if made else shown_url(picture)
        kind = "made" if made else name.lower()
        pictures.append(f'<img class="{kind}" alt="{escape(name)}: {escape(caption)}" src="{url}">')
        chosen = " checked" if made else ""
        switches.append(
            f'<label><input type="radio" name="{escape(group)}" value="{kind}"{chosen}><span>{name}</span></label>'
        )
    switch = f'<div class="switch" role="radiogroup" aria-label="View">{"".join(switches)}</div>'
    data = f'data-name="{escape(file)}" data-caption="{escape(result.caption or "")}"'
    acts = "".join(
        f'<button type="button" data-act="{act}" {data} title="{said}" aria-label="{said}">{icon(act)}</button>'
        for act, said in ACTIONS.items()
    )
    url = png_url(shown["Result"])
    save = f'<a href="{url}" download="{escape(file)}" title="Download" aria-label="Download">{icon("save")}</a>'
    about = f'<figcaption><span class="name" title="{escape(caption)}">{escape(told or caption)}</span>'
    return (
        f'<figure class="stack"><div class="views">{"".join(pictures)}</div>{switch if len(shown) > 1 else ""}{about}'
        f'<span class="acts">{acts}{save}</span></figcaption></figure>'
    )


def _layout(answer: Answer) -> Image | None:
    """The segments as the model saw them, in the size of its pictures."""
    from PIL import Image as pillow

    masks, words = answer.extras.get("layout"), answer.extras.get("segments")
    if masks is None or not words or not answer.results or answer.results[0].image is None:
        return None
    picture = layout_picture(dict(zip(words, masks, strict=True)))
    return picture.resize(answer.results[0].image.size, pillow.Resampling.NEAREST)


def _overlaps(answer: Answer) -> list[str]:
    """How well the attention fell into each segment at the end, sample by sample."""
    course, words = answer.extras.get("iou"), answer.extras.get("segments")
    if course is None or not words or getattr(course, "ndim", 0) != 3 or not len(course):
        return []
    return [" · ".join(f"{word} {share:.2f}" for word, share in zip(words, row, strict=True)) for row in course[-1]]
