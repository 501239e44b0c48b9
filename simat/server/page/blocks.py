"""The page: three tabs over one service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from simat.composers import summary
from simat.server.page import cards, parts
from simat.server.page.asking import Asking
from simat.server.page.columns import title_of
from simat.server.page.forms import (
    BOTH,
    CHANGED,
    FOUND,
    SENTENCE,
    WORDS,
    DrawForm,
    EditForm,
    Form,
    SearchForm,
    filled,
    values,
)
from simat.server.page.layouts import example_layout
from simat.server.page.links import from_link
from simat.server.page.running import Queue
from simat.server.service import Service

AT_ONCE = 64  # questions of all visitors that may be under way on a tab
EXAMPLE = "a dog on the beach"


class Tab(NamedTuple):
    """One tab: its fields in the order of its form, and where answers go."""

    fields: list[Any]
    go: Any
    out: Any
    picker: Any = None


class Page:
    """Lays out the page and wires it to what answers.

    Args:
        asking: answers.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.index: Any = None
        self.address: Any = None

    def build(self) -> Any:
        """The Blocks."""
        with gr.Blocks(title="simat", analytics_enabled=False, fill_width=True) as blocks:
            parts.title()
            self._indices()
            with gr.Tabs(elem_id="tabs") as tabs:
                with gr.Tab("Search", id="search", elem_id="tab-search"):
                    search = self._search()
                with gr.Tab("Edit", id="edit", elem_id="tab-edit"):
                    edit = self._edit()
                with gr.Tab("Draw", id="draw", elem_id="tab-draw"):
                    draw = self._draw()
            self.address = parts.address()
            self._wire(blocks, tabs, search, edit, draw)
        return blocks

    def _indices(self) -> None:
        names = [*self.asking.service.names]
        self.index = gr.Dropdown(
            names, value=names[0] if names else None, label="Index", elem_id="index", visible=len(names) > 1
        )

    def _search(self) -> Tab:
        with gr.Row(elem_classes="ask", equal_height=False):
            words = gr.Textbox(
                placeholder="What are you looking for?", label="Words", show_label=False, elem_id="search-words",
                max_lines=1, scale=6, container=False, autofocus=True,
            )  # fmt: skip
            picture = self._picker("search", "or a picture", elem_id="search-picture")
            go = gr.Button("Search", variant="primary", elem_id="search-go", scale=0, min_width=120)
        with gr.Accordion("More", open=False, elem_classes="more"), gr.Row():
            count = gr.Slider(1, 60, 12, step=1, label="How many")
            composer = gr.Dropdown([*BOTH], value="weighted", label="Words and a picture together by")
            scale = gr.Slider(0, 4, 1, step=0.05, label="λ: weight of the words")
            where = gr.Textbox(
                label="Only pictures where", placeholder="width >= 640 and caption like '%beach%'", max_lines=1,
                elem_id="search-where",
            )  # fmt: skip
        out = parts.plain(self.asking.starts(None, "search"), elem_id="search-out", elem_classes="out")
        where.submit(None, js="() => document.getElementById('search-go').click()")
        return Tab([self.index, words, picture, composer, scale, count, where], go, out, picture)

    def _edit(self) -> Tab:
        offered = self.asking.offered("edit")
        with gr.Row(elem_classes="bench"):
            with gr.Column(elem_classes="asks", scale=0, min_width=300):
                picture = self._picker("edit", "Drop, paste or choose a picture", elem_id="edit-picture")
                mode = gr.Radio([WORDS, SENTENCE], value=WORDS, label="Say it in", elem_id="edit-mode", container=False)
                with gr.Row(visible=True, elem_classes="change") as by_words:
                    source = gr.Textbox(label="Instead of", placeholder="dog", elem_id="edit-source", max_lines=1)
                    target = gr.Textbox(label="I want", placeholder="cat", elem_id="edit-target", max_lines=1)
                with gr.Row(visible=False, elem_classes="change") as by_sentence:
                    sentence = gr.Textbox(
                        label="The picture I want", placeholder="a cat on the beach", elem_id="edit-sentence", lines=2
                    )
                parts.plain(_ideas(), elem_classes="ideas")
                names = [(title_of(name), name) for name in offered]
                backends = gr.CheckboxGroup(names, value=[*offered[:1]], label="How", elem_id="edit-backends")
                scale = gr.Slider(
                    0, 3, 1, step=0.05, label="λ: how far to go", visible=FOUND in offered, elem_id="edit-scale"
                )
                with gr.Row(elem_classes="buttons"):
                    go = gr.Button("Edit", variant="primary", elem_id="edit-go")
                    stop = gr.Button("Cancel", elem_id="edit-cancel", min_width=90, scale=0)
                with gr.Accordion("More", open=False, elem_classes="more"):
                    shows = gr.Textbox(label="What the picture shows now", lines=2, elem_id="edit-shows")
                    more = gr.Textbox(label="More changes", placeholder="+ snow, - person", max_lines=1)
                    composer = gr.Dropdown(
                        [(name.replace("_", " "), name) for name in CHANGED], value="delta", label="Composer",
                        info=summary("delta"), elem_id="edit-composer",
                    )  # fmt: skip
                    count = gr.Slider(1, 60, 12, step=1, label="How many to find")
                    strength = gr.Number(None, label="Strength, 0 to 1", minimum=0, maximum=1, step=0.05)
                    with gr.Row():
                        seed = gr.Number(None, label="Seed", minimum=0, precision=0, min_width=90)
                        samples = gr.Slider(1, 4, 1, step=1, label="Samples", min_width=120)
            with gr.Column(elem_classes="results", min_width=300):
                out = parts.plain(self._start(), elem_id="edit-out", elem_classes="out")
        composer.change(lambda name: gr.update(info=summary(name)), composer, composer, **_quiet())
        mode.change(
            lambda chosen: (gr.update(visible=chosen == WORDS), gr.update(visible=chosen == SENTENCE)),
            mode, [by_words, by_sentence], **_quiet(),
        )  # fmt: skip
        picture.change(
            lambda index, given: (self.asking.described(index, given) or {}).get("caption", ""),
            [self.index, picture], shows, **_quiet(),
        )  # fmt: skip
        stop.click(self._cancel("edit"), None, None, **_quiet())
        told = [self.index, picture, mode, source, target, more, sentence, shows, backends, scale, composer, count]
        for field in (source, target):
            field.submit(None, js="() => document.getElementById('edit-go').click()")
        return Tab([*told, strength, seed, samples], go, out, picture)

    def _draw(self) -> Tab:
        offered = self.asking.offered("draw")
        with gr.Row(elem_classes="bench"):
            with gr.Column(elem_classes="asks wide", scale=0, min_width=300):
                text = gr.Textbox(EXAMPLE, label="What to draw", elem_id="draw-text", max_lines=2)
                layout = parts.canvas(example_layout(), elem_id="draw-layout")
                names = [(title_of(name), name) for name in offered]
                backends = gr.CheckboxGroup(names, value=[*offered[:1]], label="How", elem_id="draw-backends")
                with gr.Row(elem_classes="buttons"):
                    go = gr.Button("Draw", variant="primary", elem_id="draw-go")
                    stop = gr.Button("Cancel", elem_id="draw-cancel", min_width=90, scale=0)
                with gr.Accordion("More", open=False, elem_classes="more"), gr.Row():
                    seed = gr.Number(None, label="Seed", minimum=0, precision=0, min_width=90)
                    samples = gr.Slider(1, 4, 1, step=1, label="Samples", min_width=120)
            with gr.Column(elem_classes="results", min_width=300):
                out = parts.plain(cards.note("Nothing drawn yet", _HOW_TO_DRAW), elem_id="draw-out", elem_classes="out")
        stop.click(self._cancel("draw"), None, None, **_quiet())
        return Tab([text, layout, backends, seed, samples], go, out)

    def _wire(self, blocks: Any, tabs: Any, search: Tab, edit: Tab, draw: Tab) -> None:
        asking, address = self.asking, self.address

        def searched(*given: Any) -> Iterator[Any]:
            yield from _shown(asking.search(filled(SearchForm, given)))

        def edited(request: gr.Request, *given: Any) -> Iterator[Any]:
            yield from _shown(asking.edit(filled(EditForm, given), str(request.session_hash)))

        def drawn(request: gr.Request, *given: Any) -> Iterator[Any]:
            yield from _shown(asking.draw(filled(DrawForm, given), str(request.session_hash)))

        for tab, handler, name in ((search, searched, "search"), (edit, edited, "edit"), (draw, drawn, "draw")):
            tab.go.click(handler, tab.fields, [tab.out, address], **_quiet(name))
        search.fields[1].submit(searched, search.fields, [search.out, address], **_quiet("search"))
        self.index.change(
            lambda index: (None, None, asking.starts(index, "search"), self._start(index)),
            self.index, [search.picker, edit.picker, search.out, edit.out], **_quiet(),
        )  # fmt: skip
        everything = [*search.fields, *edit.fields[1:], *draw.fields, search.out, edit.out, draw.out, tabs]
        blocks.load(self._restored, None, everything, **_quiet())

    def _restored(self, request: gr.Request) -> list[Any]:
        form = from_link(dict(request.query_params))
        forms: list[Form] = [SearchForm(), EditForm(), DrawForm()]
        if form is None:
            return [gr.skip() for _ in range(sum(len(values(each)) for each in forms) - 1 + 4)]
        out, _ = self.asking.restored(form)
        if not isinstance(form, DrawForm):
            form = replace(form, picture=self.asking.described(form.index, form.picture) or form.picture)
        updates: list[Any] = []
        for each in forms:
            told = values(form) if type(form) is type(each) else [gr.skip() for _ in values(each)]
            updates += told[1:] if isinstance(each, EditForm) else told
        if not isinstance(form, DrawForm):
            updates[0] = form.index if form.index in self.asking.service.names else gr.skip()
        shown = [out if type(form) is type(each) else gr.skip() for each in forms]
        return [*updates, *shown, gr.update(selected=form.tab)]

    def _cancel(self, tab: str) -> Any:
        def cancelled(request: gr.Request) -> None:
            self.asking.cancel(tab, str(request.session_hash))

        return cancelled

    def _picker(self, name: str, label: str, **options: Any) -> Any:
        service = self.asking.service
        index = service.names[0] if service.names else None
        return parts.picker(name, label, service.options.upload_bytes, index, **options)

    def _start(self, index: str | None = None) -> str:
        if not self.asking.service.names:
            return cards.note("Nothing edited yet", "Choose a picture, say what to change, and press Edit.")
        return self.asking.starts(index, "edit")


_HOW_TO_DRAW = (
    "Write what to draw, paint where its words belong, and press Draw. There is a dog on a beach to begin with."
)


def build_page(service: Service, queue: Queue) -> Any:
    """The page over a service, as Gradio Blocks."""
    return Page(Asking(service, queue)).build()


def _ideas() -> str:
    pairs = (("dog", "cat"), ("beach", "snow"), ("red", "blue"))
    offers = [(f"{one} → {other}", "edit-source", one, {"edit-target": other}) for one, other in pairs]
    return cards.chips("Try", offers)


def _quiet(queue: str | None = None) -> dict[str, Any]:
    """Options of an event that shows its progress itself; events of one queue share their limit."""
    return {
        "show_progress": "hidden", "concurrency_limit": AT_ONCE, "concurrency_id": queue, "api_visibility": "private",
    }  # fmt: skip


def _shown(answers: Iterator[tuple[str, str | None]]) -> Iterator[Any]:
    for html, link in answers:
        yield html, gr.skip() if link is None else link
