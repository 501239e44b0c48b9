"""Tables 3.1 to 3.3 and Figures 3.5 to 3.7 of the thesis, on any encoders and corpus, beside the thesis's figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval import published
from eval.baselines import text_delta_success
from eval.figures import Chart, Line, Mark, curves, words
from eval.geometry_spaces import cosine_chart, space_measures, space_table
from eval.intervals import Estimate, estimate
from eval.measure import margin
from eval.methods import METHODS, OTHER
from eval.scales import NATURAL
from eval.simat_score import FIELDS, chance
from eval.spaces import Space
from eval.study import SENTENCE_SCALES, Study
from eval.tables import Cell, Scale, Table
from simat.composers import COMPOSERS
from simat.composers.captioned import DESCRIBING

AXIS, BANDS = "SIMAT score [%]", "Bands: 95 % intervals by bootstrap over images."
LABELS = {"subj": "subjects", "rel": "relations", "obj": "objects"}


@dataclass(frozen=True)
class Part:
    """A section of the report.

    Attributes:
        name: on the command line, and of its files.
        title: its heading.
        tables: what it measured.
        charts: what it drew.
    """

    name: str
    title: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


def table_31(study: Study) -> Part:
    """Delta vectors and baselines in the encoders' own spaces."""
    spaces = [family.plain for family in study.families if family.plain is not None]
    tables = [_baselines(study, space, number) for number, space in enumerate(spaces, 1)]
    return Part("table-3.1", "Table 3.1: delta vectors and baselines", tables)


def figure_35(study: Study) -> Part:
    """The dev score over λ for every temperature, for each family of heads."""
    tables, charts = [], []
    for number, family in enumerate(study.families, 1):
        name = "figure-3.5" if number == 1 else f"figure-3.5-{number}"
        lines = []
        for space in family.spaces:
            label, colour = ("vanilla", "#111111") if space.tau is None else (f"τ = {space.tau:g}", None)
            lines.append(_line(label, study.dev_curve(space).scales, study.dev_estimates(space), colour))
        marks = _clip_marks() if family.towers == ("CLIP", "CLIP") else []
        title = f"SIMAT score over λ, dev: {family.name}"
        charts.append(curves(name, title, lines, ("λ", AXIS), marks, note=BANDS))
        tables.append(_curve_table(name, title, "λ", lines))
    return Part("figure-3.5", "Figure 3.5: the scaling factor λ", tables, charts)


def table_32(study: Study) -> Part:
    """Image and text encoders compared; behind heads of τ = 0.1 where there are any."""
    columns = ["Image encoder", "Text encoder", "τ"]
    for name in ("Text R@1", "Image R@1", "Text delta vectors", "SIMAT score", "Upper bound"):
        columns += [name, f"{name}, thesis"]
    rows = []
    for family in study.families:
        space, known = family.main, published.ENCODERS.get(family.towers, (None,) * 5)
        ours = _encoder_figures(study, space)
        cells = [cell for pair in zip(ours, known, strict=True) for cell in pair]
        rows.append((*family.towers, "–" if space.tau is None else f"{space.tau:g}", *cells))
    note = (
        "λ = 1, test domain. Text delta vectors: the caption of the query image is transformed, nothing is left out "
        "of the answers. Upper bound: Text to Image. "
    ) + (
        f"R@1: {study.captions.folder.name}, {len(study.captioned):,} images with five captions."
        if study.captions
        else "R@1 needs a corpus of captions (--captions)."
    )
    table = Table("table-3.2", "Image and sentence encoders", tuple(columns), tuple(rows), note)
    return Part("table-3.2", "Table 3.2: image and sentence encoders", [table])


def figure_36(study: Study) -> Part:
    """The test score at λ = 1 over the training temperature, a curve per family."""
    lines = []
    for family in study.families:
        found = [study.outcome(space, "delta").estimate(study.setting(space), NATURAL) for space in family.tuned]
        if found:
            lines.append(_line(family.name, [space.tau or 0.0 for space in family.tuned], found))
    if not lines:
        return Part("figure-3.6", "Figure 3.6: the training temperature τ")
    known = any(family.tuned and family.towers == ("CLIP", "CLIP") for family in study.families)
    marks = [Mark("thesis, CLIP", published.BEST_TAU, published.BEST_SCORE)] if known else []
    title = "SIMAT score at λ = 1 over τ, test"
    chart = curves("figure-3.6", title, lines, ("τ", AXIS), marks, logarithmic=True, note=BANDS)
    table = _curve_table("figure-3.6", title, "τ", lines)
    return Part("figure-3.6", "Figure 3.6: the training temperature τ", [table], [chart])


def table_33(study: Study) -> Part:
    """Delta vectors of single words, and averaged over sentences."""
    columns = ["Text encoder", "τ", "Single word", "thesis"]
    columns += [cell for scale in SENTENCE_SCALES for cell in (f"SIMAT's captions, λ = {scale:g}", "thesis ")]
    columns += [f"Other sentences, λ = {scale:g}" for scale in SENTENCE_SCALES]
    rows = []
    for family in study.families:
        space, known = family.main, published.SENTENCES.get(family.towers[1], (None,) * 4)
        setting = study.setting(space)
        word = study.outcome(space, "delta").estimate(setting, NATURAL)
        own, other = (study.outcome(space, name) for name in ("own_sentences", "sentence_delta"))
        sentences = [(own.estimate(setting, s), k) for s, k in zip(SENTENCE_SCALES, known[1:], strict=True)]
        others = [other.estimate(setting, scale) for scale in SENTENCE_SCALES]
        tau = "–" if space.tau is None else f"{space.tau:g}"
        rows.append((family.towers[1], tau, word, known[0], *(c for pair in sentences for c in pair), *others))
    source = f"the captions of {study.captions.folder.name}" if study.captions else "templates"
    note = f"Test domain. SIMAT's captions are the evaluation's own; the other sentences are {source}."
    named = _distinct(columns)
    return Part("table-3.3", "Table 3.3: sentence-based delta vectors",
                [Table("table-3.3", "Single words and sentence averages", named, tuple(rows), note)])  # fmt: skip


def figure_37(study: Study) -> Part:
    """The test score of the queries that ask for each word, with its share of the weights."""
    space = study.families[0].main
    outcome = study.outcome(space, "delta")
    task, success = outcome.task, outcome.score(NATURAL).success
    queries: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, (field, edit) in enumerate(zip(task.fields, task.edits, strict=True)):
        queries[int(field), edit[1]].append(number)
    points: Mapping[str, list[tuple[str, float, float]]] = {LABELS[name]: [] for name in FIELDS}
    rows: list[tuple[Cell, ...]] = []
    for (field, word), numbers in sorted(queries.items()):
        share = 100 * task.weights[numbers].sum()
        right = 100 * float(np.average(success[numbers], weights=task.weights[numbers]))
        points[LABELS[FIELDS[field]]].append((word, float(share), right))
        rows.append((LABELS[FIELDS[field]], word, len(numbers), float(share), right))
    title = f"SIMAT score by target, λ = 1, test: {space.name}"
    note = "The larger the share, the more a word counts. Words without room for their names are in the table."
    chart = words("figure-3.7", title, points, ("share of the score [%]", AXIS), note)
    table = Table("figure-3.7", title, ("Field", "Target", "Queries", "Share [%]", "Score [%]"), tuple(rows), note)
    return Part("figure-3.7", "Figure 3.7: the score by target", [table], [chart])


def composers(study: Study) -> Part:
    """Every composer side by side: λ chosen on dev, the test score, the margin over plain delta vectors at λ = 1."""
    space = study.families[0].main
    setting, plain = study.setting(space), study.outcome(space, "delta")
    rows: list[tuple[Cell, ...]] = []
    for name, captions in _measured(study):
        outcome = study.outcome(space, name)
        at = outcome.chosen
        gain = margin(setting, outcome, plain)
        scale = Scale(at) if outcome.method.scaled else None
        ones = outcome.estimate(setting, NATURAL) if outcome.method.scaled else None
        title = METHODS[name].title if name not in COMPOSERS and OTHER not in name else name.removesuffix(OTHER)
        rows.append((title, captions, ones, scale, outcome.estimate(setting, at),
                     outcome.estimate(setting, at, 5), gain))  # fmt: skip
    note = (
        "λ is chosen on dev for n = 1, scores are of the test domain; margin: at the chosen λ over delta vectors at "
        "λ = 1 on the same queries, in points. Captions: what images are described by; own are the evaluation's own, "
        "which tell what it asks for."
    )
    if study.bank is not None:
        note += (
            f" The {len(study.foreign):,} captions of {study.bank.folder.name} are none of them, whatever the case and "
            "the full stop."
        )
    columns = ("Method", "Captions", "λ = 1, n = 1", "λ*", "λ*, n = 1", "λ*, n = 5", "Margin")
    table = Table("composers", f"Composers in {space.name}", columns, tuple(rows), note)
    return Part("composers", "Composers side by side", [table])


def _measured(study: Study) -> Iterator[tuple[str, str | None]]:
    """The names of the methods of the composers' table, and whose captions each knows."""
    for name in COMPOSERS:
        yield name, "own" if name in DESCRIBING else None
        if name in DESCRIBING and study.bank is not None:
            yield name + OTHER, study.bank.folder.name
    yield from (("own_sentences", "own"), ("target_caption", "own"))


def geometry(study: Study) -> Part:
    """Measures of the geometry of every family's main space, and of the encoder before its heads."""
    spaces = [space for family in study.families for space in dict.fromkeys((family.plain, family.main)) if space]
    settings = [study.setting(space) for space in spaces]
    table = space_table({space.name: space_measures(setting) for space, setting in zip(spaces, settings, strict=True)})
    charts = [cosine_chart(setting, f"geometry-cosines-{n}") for n, setting in enumerate(settings, 1)]
    return Part("geometry", "Geometry of the spaces", [table], charts)


PARTS: dict[str, Callable[[Study], Part]] = {
    "table-3.1": table_31,
    "figure-3.5": figure_35,
    "table-3.2": table_32,
    "figure-3.6": figure_36,
    "table-3.3": table_33,
    "figure-3.7": figure_37,
    "composers": composers,
    "geometry": geometry,
}


def _baselines(study: Study, space: Space, number: int) -> Table:
    setting, task = study.setting(space), study.bench.test
    delta = study.outcome(space, "delta")
    wanted = [("delta", "Delta vectors (λ = 1)", NATURAL, 1.0), ("delta", "Delta vectors (λ = 3)", 3.0, 3.0)]
    wanted += [("delta", f"Delta vectors (λ = {delta.chosen:g}, chosen on dev)", delta.chosen, -1.0)]
    rows: list[tuple[Cell, ...]] = []
    for method, title, scale, known in wanted:
        rows.append(_row(study, space, method, title, scale, published.VANILLA.get((method, known))))
    for method, title in (("image_text_image", "Image to Text to Image"), ("target_caption", "Text to Image")):
        rows.append(_row(study, space, method, title, NATURAL, published.VANILLA[method, None]))
    if study.bench.oracle.cheap:
        ones, fives = (100 * chance(task, study.bench.oracle.judge, len(setting.images), k) for k in (1, 5))
        rows.append(("Chance", ones, None, fives, None))
    columns = ("Method", "n = 1", "thesis, n = 1", "n = 5", "thesis, n = 5")
    note = (
        f"Test domain, {len(task):,} queries; oracle: {study.bench.oracle.name}; the thesis: CLIP ViT-B/32 on SIMAT, "
        "oracle OSCAR. [95 % intervals by bootstrap over images]"
    )
    name = "table-3.1" if number == 1 else f"table-3.1-{number}"
    return Table(name, f"SIMAT score in {space.name}", columns, tuple(rows), note)


def _row(
    study: Study, space: Space, method: str, title: str, scale: float, known: tuple[float, float] | None
) -> tuple[Cell, ...]:
    outcome, setting = study.outcome(space, method), study.setting(space)
    ones, fives = (outcome.estimate(setting, scale, k) for k in (1, 5))
    first, second = known or (None, None)
    return title, ones, first, fives, second


def _encoder_figures(study: Study, space: Space) -> tuple[Cell, ...]:
    setting, task = study.setting(space), study.bench.test
    found = study.retrieval(space)
    right = text_delta_success(setting.captions, study.bench.shown, setting.word_steps(task), task)
    text: Estimate = estimate(right, task, study.bench.rng())
    ours: Cell = None if found is None else 100 * found.text[1]
    theirs: Cell = None if found is None else 100 * found.image[1]
    score, bound = (study.outcome(space, m).estimate(setting, NATURAL) for m in ("delta", "target_caption"))
    return ours, theirs, text, score, bound


def _clip_marks() -> list[Mark]:
    known = [(scale, found[0]) for (name, scale), found in published.VANILLA.items() if name == "delta" and scale]
    marks = [Mark(f"thesis, vanilla, λ = {scale:g}", scale, value) for scale, value in known]
    return [*marks, Mark(f"thesis, τ = {published.BEST_TAU:g}", NATURAL, published.BEST_SCORE)]


def _line(label: str, places: Sequence[float], found: Sequence[Estimate], colour: str | None = None) -> Line:
    values, lows, highs = zip(*((100 * one.value, 100 * one.low, 100 * one.high) for one in found), strict=True)
    return Line(label, places, values, colour, lows, highs)


def _curve_table(name: str, title: str, axis: str, lines: Sequence[Line]) -> Table:
    places = sorted({x for line in lines for x in line.x})
    ends = [zip(line.y, line.low, line.high, strict=True) for line in lines]
    found = [[Estimate(*(share / 100 for share in one)) for one in each] for each in ends]
    by_line = [dict(zip(line.x, cells, strict=True)) for line, cells in zip(lines, found, strict=True)]
    rows = tuple((f"{x:g}", *(values.get(x) for values in by_line)) for x in places)
    return Table(name, title, (axis, *(line.label for line in lines)), rows)


def _distinct(columns: Sequence[str]) -> tuple[str, ...]:
    """The headings, repeated ones told apart by what stands before them."""
    return tuple(f"{columns[i - 1]}, thesis" if name.strip() == "thesis" else name for i, name in enumerate(columns))
