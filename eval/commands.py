"""``simat eval``: scores, retrieval, geometry, and the report of chapter 3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.editing.commands import edit, layout
from simat.cli.console import console, print_json, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.figures import Chart
    from eval.study import Study
    from eval.tables import Table

app = typer.Typer(help="Measure scores, retrieval and geometry.", add_completion=False, rich_markup_mode=None,
                  no_args_is_help=True)  # fmt: skip
app.command()(edit)
app.command()(layout)
CorpusArgument = Annotated[Path, typer.Argument(help="Folder of a SIMAT corpus.", show_default=False)]
EncoderOption = Annotated[str, typer.Option(help="See 'simat encoders'.")]
HeadsOption = Annotated[Path | None, typer.Option(help="Adapter heads after the encoder: a folder.")]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Vectors of the corpus's images: a folder.", show_default="encoded into the cache")
]
OracleOption = Annotated[
    str, typer.Option(help="annotation, matrix, matrix:FILE, blip:MODEL, clip:ENCODER or clip@THRESHOLD:ENCODER.")
]
CaptionsOption = Annotated[
    Path | None, typer.Option(help="A corpus of captions or scenes, for R@1 and for sentences.", show_default=False)
]
BankOption = Annotated[
    Path | None,
    typer.Option(help="A corpus whose captions describe images, beside the evaluation's own.", show_default=False),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of bootstrap draws and of ties.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PlotOption = Annotated[Path | None, typer.Option(help="Where a chart goes: PNG.")]
EncodersOption = Annotated[list[str] | None, typer.Option("--encoder", help="One or several; see 'simat encoders'.")]
SweepOption = Annotated[
    list[Path] | None, typer.Option(help="Heads, or a folder of heads of several temperatures; one or several.")
]
TausOption = Annotated[str | None, typer.Option(help="Temperatures of the sweeps to use, e.g. 0.01,0.1.")]


@app.command()
def simat(
    corpus: CorpusArgument,
    encoder: EncoderOption = "offline",
    heads: HeadsOption = None,
    composer: Annotated[
        str, typer.Option(help="One or several, separated by commas; pdv:other with --bank.")
    ] = "delta",
    scale: Annotated[str, typer.Option(help="The values of λ to choose from.")] = "0.5,1,1.5,2,3",
    oracle: OracleOption = "annotation",
    domain: Annotated[str, typer.Option(help="dev or test.")] = "test",
    k: Annotated[str, typer.Option("-k", help="Numbers of images to look at.")] = "1,5",
    target: Annotated[str | None, typer.Option(help="Only the queries that ask for this word.")] = None,
    captions: CaptionsOption = None,
    bank: BankOption = None,
    features: FeaturesOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """The SIMAT score of composers: λ chosen on dev, reported apart from λ = 1, with 95 % intervals."""
    from data.corpus import Corpus
    from eval.bench import open_bench
    from eval.measure import margin, measure, outcome_chart, outcome_table
    from eval.methods import find_methods, set_up
    from eval.spaces import load_space
    from eval.study import bank_texts, caption_texts

    methods, scales, ks = find_methods(composer.split(",")), _floats(scale, "--scale"), _counts(k)
    bench = open_bench(Corpus(corpus, "simat"), oracle, seed)
    task = bench.task(domain) if target is None else bench.task(domain).only(target)
    with progress() as bars:
        texts = caption_texts(Corpus(captions)) if captions else ()
        others = bank_texts(Corpus(bank), bench) if bank else ()
        setting = set_up(bench, load_space(encoder, heads, features), texts, bars, others)
        bars.start("composers", len(methods), "composers")
        outcomes = []
        for method in methods:
            outcomes.append(measure(setting, method, task, scales, ks))
            bars.advance(1)
    table = outcome_table(setting, outcomes, ks, domain)
    _show([table], [outcome_chart(setting, outcomes)] if plot else [], json, plot, {
        "corpus": str(corpus), "domain": domain, "queries": len(task),
        "chosen": {outcome.method.name: outcome.chosen for outcome in outcomes},
        "curves": {o.method.name: dict(zip(map(str, o.dev.scales), o.dev.values, strict=True)) for o in outcomes},
        "margins over the first": {o.method.name: vars(margin(setting, o, outcomes[0])) for o in outcomes[1:]},
    })  # fmt: skip


@app.command()
def retrieval(
    corpus: Annotated[Path, typer.Argument(help="Folder of a corpus of captions or scenes.", show_default=False)],
    encoder: EncoderOption = "offline",
    heads: HeadsOption = None,
    split: Annotated[str | None, typer.Option(help="Of the corpus.", show_default="test where there is one")] = None,
    protocol: Annotated[str | None, typer.Option(help="1k, 5k or all.", show_default="what the corpus has")] = None,
    k: Annotated[str, typer.Option("-k", help="Numbers of answers to look at.")] = "1,5,10",
    captions: Annotated[int, typer.Option(min=1, help="Captions per image.")] = 5,
    features: FeaturesOption = None,
    json: JsonOption = False,
) -> None:
    """Text R@k and Image R@k between images and their captions, on COCO's protocol."""
    from data.corpus import Corpus
    from eval.captioned import captioned, protocol_recalls, recall_table, usual_protocols
    from eval.spaces import load_space

    opened, ks = Corpus(corpus), _counts(k)
    found = captioned(opened, split, captions)
    protocols = usual_protocols(len(found), protocol)
    with progress() as bars:
        space = load_space(encoder, heads, features)
        images = space.images(opened, bars)[found.rows]
        bars.start("captions", None, "captions")
        texts = space.texts(found.captions)
    measured = {name: protocol_recalls(images, texts, size, ks) for name, size in protocols.items()}
    table = recall_table(space.name, measured, len(found))
    _show([table], [], json, None, {"corpus": str(corpus), "images": len(found)})


@app.command()
def photos(
    folder: Annotated[Path, typer.Argument(help="Photographs with a labels.csv.", show_default=False)],
    encoder: EncoderOption = "offline",
    heads: HeadsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Every composer on labelled photographs: "tiger -> leopard" must find a leopard; with 95 % intervals."""
    from data.labels import read_labels
    from eval.photos import open_album, photo_table
    from eval.spaces import load_space

    labelled = read_labels(folder)
    with progress() as bars:
        space = load_space(encoder, heads)
        table = photo_table(open_album(space, labelled, bars), space.name, seed, bars)
    _show([table], [], json, None, {"folder": str(folder), "photographs": len(labelled)})


@app.command()
def geometry(
    subject: Annotated[
        str, typer.Argument(metavar="SPACE|WORDS", help="An encoder, or words with vectors.", show_default=False)
    ],
    corpus: Annotated[Path | None, typer.Option(help="A SIMAT corpus: images and captions of the space.")] = None,
    heads: Annotated[Path | None, typer.Option(help="Heads: a folder, or a released file for words.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV of relation,source,target.", show_default="known ones")
    ] = None,
    features: FeaturesOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """How a space is shaped: anisotropy, modality gap, parallelism of deltas, analogies, dimension, probes."""
    from eval.geometry_command import measure_space, measure_words

    with progress() as bars:
        if Path(subject).exists():
            tables, charts = measure_words(Path(subject), heads, pairs)
        else:
            tables, charts = measure_space(subject, heads, corpus, pairs, features, seed, bars)
    _show(tables, charts, json, plot, {"subject": subject})


@app.command()
def chapter3(
    corpus: CorpusArgument,
    out: Annotated[Path, typer.Argument(help="Folder of the report.", show_default=False)],
    encoder: EncodersOption = None,
    sweep: SweepOption = None,
    taus: TausOption = None,
    captions: CaptionsOption = None,
    bank: BankOption = None,
    oracle: OracleOption = "annotation",
    only: Annotated[str | None, typer.Option(help="Parts, separated by commas, e.g. table-3.1.")] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Every table and figure of chapter 3 in one folder: Parquet, Markdown, PNG, and one HTML page."""
    from eval.report import PAGE, find_parts, results, write_report

    names = find_parts(only.split(",")) if only else []
    with progress() as bars:
        study = _study(corpus, encoder, sweep, taus, (captions, bank), oracle, seed)
        study.progress = bars
        parts = write_report(study, out, names, bars)
    if json:
        print_json({"report": str(out / PAGE), "tables": results(parts)})
    else:
        console().print(f"report: {out / PAGE}", markup=False)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="E.g. 3.1, 3.2, 3.3, figure-3.5, composers.", show_default=False)],
    corpus: CorpusArgument,
    encoder: EncodersOption = None,
    sweep: SweepOption = None,
    taus: TausOption = None,
    captions: CaptionsOption = None,
    bank: BankOption = None,
    oracle: OracleOption = "annotation",
    seed: SeedOption = 0,
    json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """One table or figure of chapter 3."""
    from eval.chapter3 import PARTS
    from eval.report import find_parts

    (part,) = find_parts([f"table-{name}" if name in {"3.1", "3.2", "3.3"} else name])
    with progress() as bars:
        study = _study(corpus, encoder, sweep, taus, (captions, bank), oracle, seed)
        study.progress = bars
        measured = PARTS[part](study)
    _show(measured.tables, measured.charts, json, plot, {"part": part, "corpus": str(corpus)})


def _study(
    corpus: Path,
    encoders: list[str] | None,
    sweeps: list[Path] | None,
    taus: str | None,
    texts: tuple[Path | None, Path | None],
    oracle: str,
    seed: int,
) -> Study:
    from data.corpus import Corpus
    from eval.bench import open_bench
    from eval.study import Study, find_families

    specs = encoders or ([] if sweeps else ["offline"])
    bench = open_bench(Corpus(corpus, "simat"), oracle, seed)
    _ = bench.dev, bench.test  # a corpus without one of them is refused before an encoder is loaded
    families = find_families(specs, sweeps or [], _floats(taus, "--taus") if taus else ())
    captions, bank = (Corpus(folder) if folder else None for folder in texts)
    return Study(bench, families, captions, bank)


def _show(
    tables: Sequence[Table], charts: Sequence[Chart], as_json: bool, plot: Path | None, facts: dict[str, Any]
) -> None:
    if plot:
        for number, chart in enumerate(charts):
            path = plot if not number else plot.with_name(f"{plot.stem}-{number + 1}{plot.suffix}")
            chart.save(path)
            facts = {**facts, "plots": [*facts.get("plots", []), str(path)]}
    if as_json:
        print_json({**facts, "tables": {one.name: one.records() for one in tables}})
        return
    for one in tables:
        console().print(one.markdown(), markup=False)


def _floats(text: str, option: str) -> tuple[float, ...]:
    from simat.errors import QueryError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise QueryError(f"{option} takes numbers, separated by commas", got=repr(text)) from error


def _counts(text: str) -> tuple[int, ...]:
    from simat.errors import QueryError

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise QueryError("-k takes whole numbers above 0, separated by commas", got=repr(text))
    return tuple(sorted({int(part) for part in parts}))
