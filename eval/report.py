"""The report of chapter 3: one folder of tables, charts and sheets, and one page that holds them all.

Nothing in it depends on the time: the same input gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from eval.chapter3 import PARTS, Part
from eval.examples import example_sheet, examples
from eval.study import Study
from simat.errors import QueryError
from simat.files import atomic, write_text
from simat.progress import Progress, Silent

PAGE, CONFIGURATION, RESULTS = "report.html", "configuration.json", "results.json"
EXAMPLES = 6
NONE = '<p class="note">There are none among the queries drawn.</p>'
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1e; background: #fff; max-width: 1160px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.25 } h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem }
h2 { font-size: 1.3rem; line-height: 1.3; margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.3; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e4e4e7; text-align: left; vertical-align: top }
th { border-bottom: 2px solid #999; vertical-align: bottom } .number { text-align: right }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; padding-left: 0; min-width: 7rem }
td small { display: block; color: #6b6b70; font-size: .8em; white-space: nowrap }
.wide { overflow-x: auto } .wide img { display: block; max-width: 100%; height: auto; margin: .6rem 0 }
.note { color: #555; font-size: .88rem; max-width: 60rem } nav a { display: inline-block; margin-right: .9rem; white-space: nowrap }
pre { background: #f6f6f4; padding: .8rem; overflow-x: auto; font-size: .8rem } details summary { cursor: pointer; margin: .5rem 0 }
@media (max-width: 640px) { body { margin: 1rem auto } h1 { font-size: 1.4rem } h2 { font-size: 1.15rem }
  .wide img { max-width: none; width: 38rem } th:first-child, td:first-child { min-width: 8.5rem; max-width: 10rem } }
"""  # noqa: E501


def find_parts(names: Sequence[str]) -> list[str]:
    """The parts of some names, in the order of the report; all of them for none.

    Raises:
        QueryError: one that there is not.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise QueryError("no such part", got=", ".join(unknown), remedy=f"there are: {', '.join(PARTS)}")
    return [name for name in PARTS if not names or name in names]


def write_report(study: Study, out: Path, names: Sequence[str] = (), progress: Progress | None = None) -> list[Part]:
    """Measure the parts and write them: Parquet and Markdown tables, PNG charts and sheets, one HTML page.

    Args:
        study: what to measure.
        out: a folder; files of an earlier report are written anew, others stay.
        names: of the parts; all of them for none.
        progress: told of every part.

    Raises:
        QueryError: no such part, or a domain without queries.
    """
    progress = progress or Silent()
    chosen = find_parts(names)
    _ = study.bench.dev, study.bench.test  # a corpus without one of them is refused before the work begins
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, name in enumerate(chosen, 1):  # told in lines: the parts have bars of their own
        parts.append(PARTS[name](study))
        _save(parts[-1], out)
        progress.note(f"{number} of {len(chosen)}: {name} done")
    sheets = _sheets(study, out) if not names else []
    configuration = study.configuration()
    write_text(out / CONFIGURATION, json.dumps(configuration, indent=1, ensure_ascii=False) + "\n")
    write_text(out / RESULTS, json.dumps(results(parts), indent=1, ensure_ascii=False) + "\n")
    write_text(out / PAGE, page(parts, sheets, configuration))
    return parts


def results(parts: Sequence[Part]) -> dict[str, Any]:
    """Every table as plain records, by name."""
    return {table.name: table.records() for part in parts for table in part.tables}


def page(parts: Sequence[Part], sheets: Sequence[tuple[str, bytes | None]], configuration: dict[str, Any]) -> str:
    """The whole report as one HTML page that needs no other file.

    Args:
        parts: in their order.
        sheets: (title, PNG) of the sheets of examples; None where there are no examples.
        configuration: what the results depend on.
    """
    corpus = configuration["corpus"]["name"]
    title = f"Delta vectors on {corpus}"
    links = [(part.name, part.title) for part in parts]
    links += [("examples", "Examples")] * bool(sheets) + [("configuration", "Configuration")]
    body = [f"<h1>{escape(title)}</h1>", _summary(configuration)]
    body.append("<nav>" + "".join(f'<a href="#{n}">{escape(t.partition(":")[0])}</a>' for n, t in links) + "</nav>")
    body += [_section(part) for part in parts]
    if sheets:
        body.append('<h2 id="examples">Examples</h2>')
        body += [f"<h3>{escape(name)}</h3>\n{NONE if png is None else _image(png, name)}" for name, png in sheets]
    document = escape(json.dumps(configuration, indent=1, ensure_ascii=False))
    whole = f"<details><summary>What the results depend on</summary>\n<pre>{document}</pre></details>"
    body.append(f'<h2 id="configuration">Configuration</h2>\n{whole}')
    head = f'<meta charset="utf-8">\n{VIEWPORT}\n<title>{escape(title)}</title>\n<style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _summary(configuration: dict[str, Any]) -> str:
    counts = configuration["corpus"]["counts"]
    shown = [f"{counts[name]:,} {name}" for name in ("triplets", "regions", "queries") if name in counts]
    spaces = "; ".join(configuration["spaces"])
    text = f"{', '.join(shown)}. Oracle: {configuration['oracle']}. Seed: {configuration['seed']}. Spaces: {spaces}."
    return f'<p class="note">{escape(text)}</p>'


def _section(part: Part) -> str:
    lines = [f'<h2 id="{part.name}">{escape(part.title)}</h2>']
    if not part.tables and not part.charts:
        lines.append('<p class="note">Not measured: it needs heads of several temperatures (--sweep).</p>')
    for chart in part.charts:
        lines.append(_image(chart.png(), chart.title))
        if chart.note:
            lines.append(f'<p class="note">{escape(chart.note)}</p>')
    for table in part.tables:
        html = table.html()
        lines.append(f"<details><summary>Numbers</summary>\n{html}</details>" if part.charts else html)
    return "\n".join(lines)


def _image(png: bytes, title: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<div class="wide"><img alt="{escape(title)}" src="{source}"></div>'


def _save(part: Part, out: Path) -> None:
    for table in part.tables:
        table.save(out)
    for chart in part.charts:
        chart.save(out / f"{chart.name}.png")


def _sheets(study: Study, out: Path) -> list[tuple[str, bytes | None]]:
    space, sheets = study.families[0].main, list[tuple[str, bytes | None]]()
    setting = study.setting(space)
    for name, title, success in (("successes", "Successes", True), ("failures", "Failures", False)):
        shown = examples(setting, study.bench.test, EXAMPLES, success)
        heading = f"{title} of delta vectors, λ = 1: {space.name}"
        png = _png(example_sheet(setting, shown, heading)) if shown else None
        (out / f"{name}.png").unlink(missing_ok=True)
        if png is not None:
            with atomic(out / f"{name}.png") as temporary:
                temporary.write_bytes(png)
        sheets.append((heading, png))
    return sheets


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
