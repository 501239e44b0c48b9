"""The parts of the page that Gradio has not: its head, the picker of a picture, the canvas of a layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from simat.overlays import COLOURS

PICKER = """
<div class="picker" data-name="NAME" data-limit="LIMIT" data-index="INDEX">
  <input type="file" accept="image/*" hidden tabindex="-1" aria-hidden="true">
  <button type="button" class="drop">
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 17l5-5l4 4l3-3l4 4M4 5h16v14H4z"/></svg>
    <span>${label}</span>
  </button>
  <figure hidden><img alt=""><figcaption></figcaption>
    <button type="button" class="clear" aria-label="Remove the picture" title="Remove the picture">×</button></figure>
  <p class="problem" role="alert" hidden></p>
</div>"""
CANVAS = """
<div class="layout" data-colours="COLOURS">
  <div class="tools" role="toolbar" aria-label="Tools">
    <button type="button" data-tool="brush" aria-pressed="true">Brush</button>
    <button type="button" data-tool="box" aria-pressed="false">Box</button>
    <button type="button" data-tool="erase" aria-pressed="false">Eraser</button>
    <label class="sized" title="Size"><input type="range" class="size" min="3" max="40" value="14" aria-label="Size">
    </label>
    <button type="button" class="undo">Undo</button>
    <button type="button" class="wipe">Clear</button>
  </div>
  <div class="board"><canvas width="512" height="512" tabindex="0" role="application"
    aria-label="Layout. Arrow keys move, space paints, the digits choose a segment."></canvas>
    <p class="hint">Choose a colour and paint where its words belong</p></div>
  <ol class="names" aria-label="Segments"></ol>
  <button type="button" class="add">Add a segment</button>
</div>"""
TITLE = """
<header class="top">
  <div><h1>simat</h1><p>Search images by “this one, but with a cat instead of a dog”.</p></div>
  <nav aria-label="Page"><a href="docs" target="_blank" rel="noopener">API</a>
    <button type="button" data-act="copy">Copy link</button>
    <button type="button" data-act="theme" aria-label="Light or dark" title="Light or dark">
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16"/></svg></button>
  </nav>
</header>"""


def title() -> Any:
    """The head of the page."""
    return plain(TITLE)


def plain(value: str = "", **options: Any) -> Any:
    """HTML as it is, with nothing around it."""
    return gr.HTML(value, js_on_load=None, apply_default_css=False, **options)


def picker(name: str, label: str, limit: int, index: str | None, **options: Any) -> Any:
    """A picture that is dropped, pasted or chosen; its value is what :func:`read_picker` reads.

    Args:
        name: by which results find it: ``search`` or ``edit``.
        label: what it says while it is empty.
        limit: the greatest file, in bytes.
        index: where ids belong to, unless another index is chosen on the page.
        options: of the component.
    """
    # In the template, not in properties of the component: those can be missing where a tab is opened late.
    given = {"${label}": label, "NAME": name, "LIMIT": str(limit), "INDEX": index or ""}
    template = PICKER
    for mark, text in given.items():
        template = template.replace(mark, _literal(text))
    return gr.HTML(
        None,
        html_template=template,
        js_on_load="window.simat.picker(element, props, watch); 'change'",
        apply_default_css=False,
        **options,
    )


def canvas(value: Mapping[str, Any], **options: Any) -> Any:
    """A canvas on which named segments are painted; its value is what :func:`read_layout` reads."""
    return gr.HTML(
        dict(value),
        html_template=CANVAS.replace("COLOURS", json.dumps(COLOURS)),
        js_on_load="window.simat.layout(element, props, watch)",
        apply_default_css=False,
        **options,
    )


def address(**options: Any) -> Any:
    """Puts its value behind the address of the page."""
    follow = "watch('value', () => window.simat.link(props.value))"
    return gr.HTML("", js_on_load=follow, html_template="", visible="hidden", **options)


def _literal(text: str) -> str:
    """A text in a template, where neither HTML nor the two languages of templates find anything to do."""
    return "".join(f"&#{ord(c)};" if c in "`$\\{}" else c for c in escape(text))
