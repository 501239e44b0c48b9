"""Pieces of the page as HTML; every word that comes from an index, a file or a visitor is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from simat.documents import shown
from simat.engine import Engine
from simat.errors import SimatError
from simat.types import Answer, Result

ICONS = {
    "edit": "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
    "like": "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16 16l5 5",
    "save": "M12 4v11M7 10.5l5 5l5-5M4 20h16",
}
ACTIONS = {"edit": "Edit this picture", "like": "Search for pictures like this one"}


def icon(name: str) -> str:
    """A small drawing beside or instead of a word."""
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{ICONS[name]}"/></svg>'


def cards(results: Sequence[Result], index: str, root: Path, act: str, scores: bool = True) -> str:
    """Found pictures as a grid.

    Args:
        results: of an index.
        index: its name.
        root: of its images; paths are told relative to it.
        act: what choosing a picture does, ``like`` or ``edit``.
        scores: whether to tell them.
    """
    return f'<ul class="cards">{"".join(_card(result, index, root, act, scores) for result in results)}</ul>'


def sampled(engine: Engine, count: int) -> list[Result]:
    """Images from all over an index, to start from."""
    places = np.unique(np.linspace(0, len(engine) - 1, min(count, len(engine))).astype(np.int64))
    ids, resolve = engine.opened.live(places), engine.embeddings.resolve
    return [Result(0.0, int(i), resolve(row), row.caption) for i, row in zip(ids, engine.rows(ids), strict=True)]


def _card(result: Result, index: str, root: Path, act: str, scores: bool) -> str:
    path = shown(result.path).removeprefix(f"{root}/")
    name, place = path.rpartition("/")[2], f"v1/images/{result.id}"
    about, query = result.caption or name, f"?index={quote(index, safe='')}"
    data = f'data-id="{result.id}" data-caption="{escape(result.caption or "")}" data-name="{escape(name)}"'
    told = f"{about}, score {result.score:.3f}" if scores else about
    other = "edit" if act == "like" else "like"
    score = f'<span class="score">{result.score:.3f}</span>' if scores else ""
    return (
        f'<li class="card"><button type="button" class="pick" data-act="{act}" {data} title="{ACTIONS[act]}" '
        f'aria-label="{escape(told)}: {ACTIONS[act].lower()}">'
        f'<img src="{place}/thumbnail{query}" alt="" loading="lazy" width="256" height="256"></button>'
        f'<div class="about">{score}<span class="name" title="{escape(path)}">{escape(about)}</span>'
        f'<span class="acts"><button type="button" data-act="{other}" {data} title="{ACTIONS[other]}" '
        f'aria-label="{ACTIONS[other]}: {escape(about)}">{icon(other)}</button>'
        f'<a href="{place}{query}" download="{escape(name)}" title="Download" '
        f'aria-label="Download {escape(name)}">{icon("save")}</a></span></div></li>'
    )


def waiting(count: int) -> str:
    """Empty places where results will be."""
    return f'<ul class="cards" aria-hidden="true">{"<li class=card><div class=ghost></div></li>" * count}</ul>'


def note(title: str, text: str = "") -> str:
    """What a part of the page is for, before anything is in it."""
    return f'<div class="note"><h3>{escape(title)}</h3><p>{escape(text)}</p></div>'


def problem(error: SimatError) -> str:
    """What went wrong, what was got, and what to do about it."""
    got = "" if error.got is None else f'<p class="got">{escape(str(error.got)[:300])}</p>'
    remedy = "" if error.remedy is None else f"<p>{escape(_sentence(error.remedy))}</p>"
    return f'<div class="problem" role="alert"><h3>{escape(_sentence(error.what))}</h3>{got}{remedy}</div>'


def summary(answer: Answer, images: int, title: str) -> str:
    """One line above results: what, how many, how long."""
    spent = duration(sum(answer.timings.values(), 0.0))
    count = f"{len(answer)} of {images:,} picture{'s' if images != 1 else ''}"
    return f'<div class="summary" role="status"><strong>{escape(title)}</strong><span>{count} · {spent}</span></div>'


def duration(seconds: float) -> str:
    """A time in the unit that it is read best in."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def chips(label: str, offers: Sequence[tuple[str, str, str, Mapping[str, str]]]) -> str:
    """Words to try with one click: (what it says, field, text for it, texts for other fields)."""
    import json

    buttons = "".join(
        f'<button type="button" class="chip" data-act="say" data-target="{escape(field)}" data-text="{escape(text)}" '
        f'data-also="{escape(json.dumps(dict(also)))}">{escape(said)}</button>'
        for said, field, text, also in offers
    )
    return f'<div class="chips" role="group" aria-label="{escape(label)}"><span>{escape(label)}</span>{buttons}</div>'


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
