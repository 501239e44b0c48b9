"""``simat eval edit`` and ``simat eval layout``: backends that make pictures, compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.editing.answers import Answerer, Store
    from eval.editing.cases import LayoutCase
    from eval.editing.layout_report import Eyes
    from eval.editing.report import Report
    from eval.editing.settings import Setting

SCENES = "scenes"
MOST_SHOWN = 6  # settings beside each other on a sheet
EDITORS = "diffedit,encode_decode,diffedit_no_encoding,sdedit,encode,copy"
PAINTERS = "zestguide,pww"
OutArgument = Annotated[Path, typer.Argument(help="Folder of answers and report; a killed run goes on from it.")]
BackendOption = Annotated[str, typer.Option(help="One or several, separated by commas.")]
SweepOption = Annotated[
    list[str] | None, typer.Option(help="BACKEND.SETTING=VALUE,VALUE,…: one more curve per value; one or several.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="BACKEND.SETTING=VALUE for every run of a backend.")]
LimitOption = Annotated[str | None, typer.Option(help="BACKEND=NUMBER of cases, for slow backends.")]
ModelOption = Annotated[str, typer.Option(help="scenes, the folder of a diffusers pipeline, or a hub id.")]
NetworksOption = Annotated[str | None, typer.Option(help="open_clip networks of FlexIT, separated by commas.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the cases and of every backend.")]
SizeOption = Annotated[int, typer.Option(help="Edge of scenes in pixels.")]
FeaturesOption = Annotated[str | None, typer.Option(help="Extractor of FID: inception, efficientnet, …, or none.")]
ClipOption = Annotated[str | None, typer.Option(help="Encoder of CLIPScore, or none.")]
ReportOption = Annotated[bool, typer.Option("--report", help="Only measure the answers that are there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def edit(
    corpus: Annotated[str, typer.Argument(help="scenes, a CSV of ImageNet queries, or a corpus of captions.")],
    out: OutArgument,
    backend: BackendOption = EDITORS,
    strength: Annotated[str, typer.Option(help="For backends that take one, e.g. 0.3,0.5,0.8.")] = "0.3,0.5,0.7,0.9",
    edits: Annotated[int | None, typer.Option(min=1, help="Of every kind.")] = 200,
    sweep: SweepOption = None,
    always: SetOption = None,
    limit: LimitOption = None,
    model: ModelOption = SCENES,
    networks: NetworksOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    size: SizeOption = 128,
    images: Annotated[Path | None, typer.Option(help="ImageNet's validation images, by class.")] = None,
    reals: Annotated[Path | None, typer.Option(help="Real pictures by class, for SFID and CSFID.")] = None,
    bison: Annotated[Path | None, typer.Option(help="BISON's annotations.")] = None,
    filtered: Annotated[bool, typer.Option("--filtered", help="Only BISON queries of few word edits.")] = False,
    development: Annotated[bool, typer.Option("--dev", help="ImageNet's development set.")] = False,
    distance: Annotated[str | None, typer.Option(help="Of LPIPS: alex, vgg, efficientnet, or none.")] = None,
    classifier: Annotated[str | None, typer.Option(help="timm:MODEL, a Hugging Face folder or id, or none.")] = None,
    clip: ClipOption = None,
    features: FeaturesOption = None,
    only_report: ReportOption = False,
    json: JsonOption = False,
) -> None:
    """Edit success against distance over strength, for every backend and setting: tables, figures, sheets."""
    from eval.editing.answers import run
    from eval.editing.protocols import EditOptions, edit_protocol
    from eval.editing.report import beside_each_other, edit_report, measure_edits, write_report

    asked = EditOptions(corpus, edits, seed, size, images, reals, bison, filtered, development, distance, classifier,
                        clip, features)  # fmt: skip
    strengths = _strengths(strength)
    with progress() as bars:
        answerer = open_answerer(model=model, networks=networks, device=device, dtype=dtype)
        settings = _settings(answerer, backend, strengths, sweep, limit, always)
        protocol, store = edit_protocol(asked), _store(out)
        if not only_report:
            run(answerer, protocol.cases, settings, store, seed, bars)
        measured = measure_edits(protocol, settings, store, answerer.model, seed, bars)
    report = edit_report(protocol, measured)
    middle = strengths[len(strengths) // 2] if strengths else 0.0
    write_report(report, store, _configuration(asked, settings, answerer), beside_each_other(measured, middle))
    _show(report, out, json)


def layout(
    corpus: Annotated[str, typer.Argument(help="scenes, or a corpus of captions.")],
    out: OutArgument,
    protocol: Annotated[str, typer.Option(help="all, filtered or few.")] = "few",
    backend: BackendOption = PAINTERS,
    layouts: Annotated[int | None, typer.Option(min=1, help="How many; all of a corpus where left out.")] = None,
    sweep: SweepOption = None,
    always: SetOption = None,
    limit: LimitOption = None,
    model: ModelOption = SCENES,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    size: SizeOption = 128,
    maps: Annotated[Path | None, typer.Option(help="COCO-Stuff's maps, such as val2017.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Names of the maps' labels.", show_default="COCO-Stuff's")] = None,
    segmenter: Annotated[str, typer.Option(help="scenes, or a Hugging Face folder or id.")] = SCENES,
    clip: ClipOption = None,
    features: FeaturesOption = None,
    only_report: ReportOption = False,
    json: JsonOption = False,
) -> None:
    """mIoU of pictures drawn by layouts, with FID and CLIPScore: a table, figures, a sheet."""
    from eval.editing.answers import run
    from eval.editing.layout_report import STUFF, layout_report, measure_layouts
    from eval.editing.report import write_report

    with progress() as bars:
        cases, eyes = (
            _cases(corpus, protocol, layouts, seed, size, maps, labels),
            _eyes(corpus, segmenter, clip, features),
        )
        answerer = open_answerer(model=model, device=device, dtype=dtype)
        settings, store = _settings(answerer, backend, (), sweep, limit, always), _store(out)
        if not only_report:
            run(answerer, cases, settings, store, seed, bars)
        drawn = measure_layouts(cases, settings, store, eyes, answerer.model, seed, bars)
    report = layout_report(SCENES if corpus == SCENES else STUFF, drawn, eyes)
    shown = [one.measured for one in drawn][:MOST_SHOWN]
    write_report(report, store, _configuration(cases[0].kind, settings, answerer), [shown])
    _show(report, out, json)


def open_answerer(**options: Any) -> Answerer:
    """The project's own backends; names of networks are separated by commas."""
    from eval.editing.studio import StudioAnswerer

    networks = options.pop("networks", None)
    if networks:
        options["networks"] = tuple(networks.split(","))
    return StudioAnswerer(**options)


def _settings(
    answerer: Answerer,
    backends: str,
    strengths: tuple[float, ...],
    sweeps: Sequence[str] | None,
    limit: str | None,
    always: Sequence[str] | None,
) -> list[Setting]:
    from eval.editing.settings import parse_limits, settings_of

    names = [name.strip() for name in backends.split(",")]
    accepts = {name: answerer.accepts(name) for name in names}
    return settings_of(accepts, strengths, sweeps or (), parse_limits(limit, names), always or ())


def _cases(
    corpus: str, protocol: str, number: int | None, seed: int, size: int, maps: Path | None, labels: Path | None
) -> list[LayoutCase]:
    from data.corpus import Corpus
    from eval.editing.coco import CAPTIONS, stuff_layouts
    from eval.scene_edits import scene_layouts
    from simat.errors import QueryError

    if corpus == SCENES:
        return scene_layouts(protocol, 200 if number is None else number, seed, size)
    if maps is None:
        raise QueryError("layouts on captions need COCO-Stuff's maps", remedy="give their folder with --maps")
    return stuff_layouts(Corpus(Path(corpus), CAPTIONS), maps, protocol, number, seed, labels)


def _eyes(corpus: str, segmenter: str, clip: str | None, features: str | None) -> Eyes:
    from eval.editing.layout_report import Eyes
    from eval.judge import load_segmenter
    from eval.metrics.features import load_extractor
    from simat.encoders import load_encoder

    scenes = corpus == SCENES
    agreeing = clip or (SCENES if scenes else "open_clip:ViT-B-32-quickgelu/openai")
    looking = features or ("efficientnet" if scenes else "inception")
    return Eyes(
        load_segmenter(segmenter),
        None if agreeing == "none" else (load_encoder(agreeing), agreeing),
        None if looking == "none" else load_extractor(looking),
    )


def _store(out: Path) -> Store:
    from eval.editing.answers import Store

    out.mkdir(parents=True, exist_ok=True)
    return Store(out)


def _strengths(text: str) -> tuple[float, ...]:
    from simat.errors import QueryError

    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise QueryError("--strength takes numbers, separated by commas", got=repr(text)) from error
    if not all(0 <= strength <= 1 for strength in found):
        raise QueryError("a strength lies in [0, 1]", got=repr(text))
    return found


def _configuration(options: Any, settings: Sequence[Setting], answerer: Answerer) -> dict[str, Any]:
    from dataclasses import asdict, is_dataclass

    from simat import __version__

    return {
        "options": asdict(options) if is_dataclass(options) and not isinstance(options, type) else options,
        "model": answerer.model,
        "settings": [asdict(setting) for setting in settings],
        "simat": __version__,
    }


def _show(report: Report, out: Path, as_json: bool) -> None:
    from eval.editing.report import PAGE

    if as_json:
        print_json({"report": str(out / PAGE), "tables": report.results()})
        return
    for table in report.tables:
        console().print(table.markdown(), markup=False)
    console().print(f"report: {out / PAGE}", markup=False)
