"""``simat finetune cache | train | sweep | resnet``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json, progress

if TYPE_CHECKING:
    from finetune.config import TrainConfig
    from finetune.train import Training
    from simat.heads import Heads

app = typer.Typer(
    help="Train heads that make delta vectors work.", add_completion=False, rich_markup_mode=None, no_args_is_help=True
)
CacheArgument = Annotated[Path, typer.Argument(help="Features by 'simat finetune cache'.", show_default=False)]
EpochsOption = Annotated[int, typer.Option(help="Passes over the images, one random caption of each.")]
BatchOption = Annotated[int, typer.Option(help="Pairs per step.")]
LrOption = Annotated[float, typer.Option(help="The highest learning rate.")]
HeadOption = Annotated[str, typer.Option(help="linear, or mlp: four layers after the image encoder.")]
DimOption = Annotated[int, typer.Option(help="Length of the vectors after the heads.")]
HiddenOption = Annotated[int, typer.Option(help="Width of the layers of an mlp.")]
OptimizerOption = Annotated[str, typer.Option(help="adamw or adam.")]
DecayOption = Annotated[float, typer.Option(help="Weight decay of adamw.")]
ScheduleOption = Annotated[str, typer.Option(help="cosine or constant, after the warm-up.")]
WarmupOption = Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")]
ClipOption = Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for any.")]
PrecisionOption = Annotated[str, typer.Option(help="f32, or bf16 for the products of matrices.")]
ValidationOption = Annotated[str, typer.Option(help="Split that recall is measured on after every epoch.")]
PatienceOption = Annotated[
    int | None, typer.Option(help="Stop after so many epochs without a better recall; keep the best.")
]
SeedOption = Annotated[int, typer.Option(help="Of first weights, order and captions.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
PlotOption = Annotated[bool, typer.Option("--plot", help="Draw the curves as a PNG beside the heads.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def finetune() -> None:
    """Train heads that make delta vectors work."""


@app.command()
def cache(
    corpus: Annotated[Path, typer.Argument(help="A corpus of captions, scenes or SIMAT.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="New folder of the features.", show_default=False)],
    encoder: Annotated[str, typer.Option(help="An encoder, or combined:image=SPEC,text=SPEC.")] = "offline",
    workers: Annotated[int | None, typer.Option(min=1, help="Decoder processes.", show_default="one per core")] = None,
    precision: PrecisionOption = "f32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or torch.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Encode a corpus once, as it is: what heads are trained on. Run it again after any interruption."""
    from data.corpus import Corpus
    from finetune.cache import build_cache
    from simat.encoders import load_towers
    from simat.encoders.runtime import RuntimeOptions

    opened = Corpus(corpus)
    options = RuntimeOptions(precision, device)  # type: ignore[arg-type]
    image, text = load_towers(encoder, options)
    with progress() as bars:
        counts = build_cache(opened, image, text, out, workers or options.cores, bars)
    if json:
        print_json({"cache": str(out), **counts})
    else:
        shown = f"{counts['images']:,} images and {counts['captions']:,} captions in {out}"
        lost = f"; {counts['rejected']:,} images could not be read" if counts["rejected"] else ""
        console().print(shown + lost, markup=False)


@app.command()
def train(
    cache: CacheArgument,
    heads: Annotated[Path, typer.Argument(help="New folder of the heads.", show_default=False)],
    tau: Annotated[float, typer.Option(help="Temperature τ, fixed.")] = 0.1,
    epochs: EpochsOption = 30,
    batch: BatchOption = 4096,
    lr: LrOption = 1e-3,
    head: HeadOption = "linear",
    dim: DimOption = 512,
    hidden: HiddenOption = 2048,
    optimizer: OptimizerOption = "adamw",
    weight_decay: DecayOption = 0.01,
    schedule: ScheduleOption = "cosine",
    warmup: WarmupOption = 0.05,
    clip: ClipOption = 1.0,
    precision: PrecisionOption = "f32",
    validation: ValidationOption = "val",
    patience: PatienceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    plot: PlotOption = False,
    json: JsonOption = False,
) -> None:
    """Train heads over frozen features. Run it again after any interruption: it goes on where it was."""
    from finetune.config import TrainConfig

    config = TrainConfig(
        tau, epochs, batch, lr, head, dim, hidden, optimizer, weight_decay, schedule, warmup, clip, precision,
        validation, patience, seed,
    )  # fmt: skip
    _train(cache, heads, config, device, plot, json)


@app.command()
def sweep(
    cache: CacheArgument,
    out: Annotated[Path, typer.Argument(help="New folder; gets tau=0.1/ and so on.", show_default=False)],
    tau: Annotated[str, typer.Option(help="Temperatures, separated by commas.")] = "0.01,0.03,0.1,0.3,1",
    epochs: EpochsOption = 30,
    batch: BatchOption = 4096,
    lr: LrOption = 1e-3,
    head: HeadOption = "linear",
    dim: DimOption = 512,
    hidden: HiddenOption = 2048,
    optimizer: OptimizerOption = "adamw",
    weight_decay: DecayOption = 0.01,
    schedule: ScheduleOption = "cosine",
    warmup: WarmupOption = 0.05,
    clip: ClipOption = 1.0,
    precision: PrecisionOption = "f32",
    validation: ValidationOption = "val",
    patience: PatienceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    plot: PlotOption = False,
    json: JsonOption = False,
) -> None:
    """Train heads at several temperatures. Run it again after any interruption: it goes on where it was."""
    from finetune.config import TrainConfig

    taus = parse_taus(tau)
    config = TrainConfig(
        taus[0], epochs, batch, lr, head, dim, hidden, optimizer, weight_decay, schedule, warmup, clip, precision,
        validation, patience, seed,
    )  # fmt: skip
    _sweep(cache, out, taus, config, device, plot, json)


@app.command()
def resnet(
    cache: CacheArgument,
    heads: Annotated[Path, typer.Argument(help="New folder of the heads and their network.", show_default=False)],
    tau: Annotated[float, typer.Option(help="Temperature τ, fixed.")] = 0.1,
    epochs: EpochsOption = 30,
    batch: BatchOption = 4096,
    lr: LrOption = 1e-3,
    dim: DimOption = 512,
    hidden: HiddenOption = 2048,
    validation: ValidationOption = "val",
    patience: PatienceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    plot: PlotOption = False,
    json: JsonOption = False,
) -> None:
    """Train the last block of a torchvision ResNet and four layers after it, from the images of a cache."""
    from finetune.config import TrainConfig
    from finetune.resnet import ResNetTraining

    config = TrainConfig(
        tau, epochs, batch, lr, "mlp", dim, hidden, validation=validation, patience=patience, seed=seed
    )
    _train(cache, heads, config, device, plot, json, ResNetTraining)


def parse_taus(text: str) -> list[float]:
    """``0.01,0.1,1`` as numbers.

    Raises:
        TrainError: anything else.
    """
    from finetune.config import TrainError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise TrainError(
            "not a list of temperatures", got=repr(text), remedy="write for example 0.03,0.1,0.3"
        ) from error


def _train(
    cache: Path,
    folder: Path,
    config: TrainConfig,
    device: str,
    plot: bool,
    json: bool,
    recipe: type[Training] | None = None,
) -> None:
    from finetune.curves import NAME, check_plots, plot_curve
    from finetune.pairs import open_features
    from finetune.train import train as run

    if plot:
        check_plots()
    with progress() as bars:
        trained = run(open_features(cache), folder, config, device, bars, recipe)
    facts = trained_document(folder, trained)
    if plot:
        facts["plot"] = str(folder / NAME)
        plot_curve(folder / NAME, trained.details["curve"], f"τ = {trained.tau:g}")
    if json:
        print_json(facts)
    else:
        _print_trained(facts)


def _sweep(cache: Path, out: Path, taus: list[float], config: TrainConfig, device: str, plot: bool, json: bool) -> None:
    from finetune.curves import check_plots, plot_sweep
    from finetune.pairs import open_features
    from finetune.sweep import PLOT, TABLE
    from finetune.sweep import sweep as run

    if plot:
        check_plots()
    with progress() as bars:
        rows = run(open_features(cache), out, taus, config, device, bars)
    if plot:
        plot_sweep(out / PLOT, rows)
    if json:
        print_json({"table": str(out / TABLE), "plot": str(out / PLOT) if plot else None, "rows": rows})
    else:
        _print_sweep(rows)


def trained_document(folder: Path, trained: Heads) -> dict[str, Any]:
    """The stable JSON form of finished heads."""
    last = next(point for point in trained.details["curve"] if point["epoch"] == trained.details["epoch"])
    return {"heads": str(folder), "fingerprint": trained.fingerprint, "tau": trained.tau, "dim": trained.dim, **last}


def _print_trained(facts: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"heads at τ = {facts['tau']:g} in {facts['heads']} · {facts['dim']}-d · epoch {facts['epoch']}"
        f" · loss {facts['loss']:.4f}",
        markup=False,
    )
    for way, name in (("text_to_image", "image retrieval"), ("image_to_text", "text retrieval")):
        if way in facts:
            out.print(f"{name:<16} " + "  ".join(f"R@{k} {100 * v:.1f} %" for k, v in facts[way].items()), markup=False)
    if "plot" in facts:
        out.print(f"curves in {facts['plot']}", markup=False)


def _print_sweep(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("τ", "epoch", "loss", "image R@1", "R@5", "R@10", "text R@1", "R@5", "R@10", box=None)
    names = [f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
    for row in rows:
        recalls = [f"{100 * row[name]:.1f}" if name in row else "" for name in names]
        table.add_row(f"{row['tau']:g}", str(row["epoch"]), f"{row['loss']:.4f}", *recalls)
    console().print(table)
