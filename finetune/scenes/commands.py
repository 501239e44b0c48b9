"""``simat train-scenes``: make the small models of the scene world again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from simat.cli.console import console, print_json, progress
from simat.progress import Progress

app = typer.Typer(
    help="Train the small models of the scene world.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
OutOption = Annotated[Path, typer.Option(help="Folder of the models and their checkpoints.")]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes: the layout, not the quality.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps in all.", show_default="the shipped model's")]
SeedOption = Annotated[int, typer.Option(help="The same seed draws the same scenes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def train_scenes() -> None:
    """Train the small models of the scene world."""


@app.command()
def dual(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train the dual encoder. Run it again after any interruption: it goes on from its last checkpoint."""
    _run({"dual": _dual}, out, smoke, steps, seed, json)


@app.command()
def autoencoder(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train the KL autoencoder, the latent space of the diffusion model."""
    _run({"autoencoder": _autoencoder("autoencoder")}, out, smoke, steps, seed, json)


@app.command()
def vq(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train the VQ autoencoder."""
    _run({"vq": _autoencoder("vq")}, out, smoke, steps, seed, json)


@app.command()
def diffusion(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    begin: Annotated[Path | None, typer.Option(help="A pipeline's folder: begin with its weights.")] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train the diffusion model in the latent space of the autoencoder that lies beside it."""
    _run({"diffusion": partial(_diffusion, begin=begin)}, out, smoke, steps, seed, json)


@app.command()
def judge(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train both halves of the judge that evaluation asks."""
    _run({part: _judge(part) for part in ("classifier", "segmenter")}, out, smoke, steps, seed, json)


@app.command(name="all")
def every(
    out: OutOption = Path("scene-models"), smoke: SmokeOption = False, seed: SeedOption = 0, json: JsonOption = False
) -> None:
    """Train everything: hours on a CPU, half an hour on a GPU."""
    work: dict[str, Work] = {"dual": _dual, "autoencoder": _autoencoder("autoencoder"), "vq": _autoencoder("vq")}
    work |= {"diffusion": _diffusion} | {part: _judge(part) for part in ("classifier", "segmenter")}
    _run(work, out, smoke, None, seed, json)


Work = Callable[[Path, bool, int | None, int, Progress], dict[str, Any]]


def _run(work: dict[str, Work], out: Path, smoke: bool, steps: int | None, seed: int, json: bool) -> None:
    from finetune.curves import check_plots

    check_plots()
    with progress() as bars:
        facts = {name: one(out, smoke, steps, seed, bars) for name, one in work.items()}
    _tell(facts, json)


def _tell(facts: dict[str, dict[str, Any]], json: bool) -> None:
    if json:
        print_json(facts)
        return
    for told in facts.values():
        console().print(f"{told['folder']}: loss {told['loss']:g} after {told['steps']} steps", markup=False)


def _dual(out: Path, smoke: bool, steps: int | None, seed: int, bars: Progress) -> dict[str, Any]:
    from finetune.scenes.card import describe
    from finetune.scenes.dual import DualOptions, train_dual

    options = DualOptions.smoke(seed) if smoke else DualOptions(seed=seed)
    options = options if steps is None else replace(options, steps=steps)
    return describe(train_dual(out, options, bars), options, gallery=80 if smoke else 400)


def _autoencoder(kind: Any) -> Work:
    def work(out: Path, smoke: bool, steps: int | None, seed: int, bars: Progress) -> dict[str, Any]:
        from finetune.scenes.autoencoder import AutoencoderOptions, train_autoencoder
        from finetune.scenes.cards import describe_autoencoder

        options = AutoencoderOptions.smoke(kind, seed) if smoke else AutoencoderOptions.of(kind, seed)
        options = replace(options, plan=options.plan.taking(steps))
        return describe_autoencoder(train_autoencoder(out, options, bars), options, 16 if smoke else 256)

    return work


def _diffusion(
    out: Path, smoke: bool, steps: int | None, seed: int, bars: Progress, begin: Path | None = None
) -> dict[str, Any]:
    from finetune.scenes.cards import describe_diffusion
    from finetune.scenes.diffusion import DiffusionOptions, train_diffusion

    options = DiffusionOptions.smoke(seed) if smoke else DiffusionOptions.of(seed)
    options = replace(options, plan=options.plan.taking(steps), start=begin)
    return describe_diffusion(train_diffusion(out, options, bars), options, 4 if smoke else 64)


def _judge(part: Any) -> Work:
    def work(out: Path, smoke: bool, steps: int | None, seed: int, bars: Progress) -> dict[str, Any]:
        from finetune.scenes.cards import describe_judge
        from finetune.scenes.judge import JudgeOptions, train_judge

        options = JudgeOptions.smoke(part, seed) if smoke else JudgeOptions.of(part, seed)
        options = replace(options, plan=options.plan.taking(steps))
        return describe_judge(train_judge(out, options, bars), options, 16 if smoke else 500)

    return work
