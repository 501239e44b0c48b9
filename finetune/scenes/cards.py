"""The cards of autoencoders, diffusion model and judge: what they were made of, what they can do, what they cannot."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune.curves import plot_loss
from finetune.scenes.autoencoder import VQ, AutoencoderOptions
from finetune.scenes.diffusion import DiffusionOptions
from finetune.scenes.judge import JudgeOptions
from finetune.scenes.marks import mark_autoencoder, mark_judge
from finetune.scenes.sheets import GUIDANCE, STEPS, sample_sheet
from finetune.scenes.trainer import Plan, Trained
from simat.files import human, sha256_file, write_text

CARD, LOSS, CURVE, SHEET = "README.md", "loss.json", "loss.png", "samples.png"
_ABOUT = {
    "autoencoder": (
        "KL autoencoder of the scene world",
        "`diffusers.AutoencoderKL`; 4 latents for every 4 × 4 pixels. The latent space of the diffusion model.",
        "Squared and absolute error of pixels, absolute error of the differences between neighbours, a little "
        "divergence from a normal distribution; no adversary, no perceptual network.",
    ),
    "vq": (
        "VQ autoencoder of the scene world",
        "`diffusers.VQModel`; one of 4,096 codes of 4 numbers for every 4 × 4 pixels. A latent space for FlexIT.",
        "As the KL autoencoder, with the commitment loss in place of the divergence; codes that nobody used for a "
        "while move to latents of the batch.",
    ),
    "diffusion": (
        "Latent diffusion model of the scene world",
        "A `StableDiffusionPipeline` folder at 128 × 128 pixels. The text encoder has no layers: a word's state is its "
        "embedding and its position, so that attention to a word is attention to that word alone. At the finest "
        "resolution the network attends to the text only, below it to the picture as well. Load it with "
        "`torch_dtype=torch.float32`, or another type for all parts.",
        "v-prediction, one prompt in ten left empty, latents that show a thing count three times, moving average of "
        "the weights. Prompts: captions of the scene, and bare words for one in four.",
    ),
    "segmenter": (
        "Judge of the scene world: segmentation",
        "`transformers.SegformerForSemanticSegmentation`: background, and the things of the world. For evaluation "
        "only: nothing that makes or finds pictures may read it.",
        "Cross-entropy by pixel; pictures made softer, noisier, lighter or darker at random.",
    ),
    "classifier": (
        "Judge of the scene world: facts",
        "`transformers.ResNetForImageClassification`: which subject, relation, object and place. For evaluation only: "
        "nothing that makes or finds pictures may read it.",
        "Cross-entropy of each fact with a smoothing of 0.05; pictures made softer, noisier, lighter or darker at "
        "random.",
    ),
}
_LIMITS = {
    "autoencoder": "Thin outlines lose contrast; photographs come back as drawings.",
    "vq": "Thin outlines lose contrast, flat areas may show the grid of codes; photographs come back as drawings.",
    "diffusion": "It knows drawings of this world, its 107 words, one subject and one object. A facing that the text "
    "leaves open may be drawn both ways at once; small faces are rough; colours and relations sometimes go astray.",
    "segmenter": "It knows drawings of this world. A judge of the same world is lenient: look at the pictures as well.",
    "classifier": "It knows drawings of this world. A judge of one world is lenient: look at the pictures as well.",
}


def describe_autoencoder(trained: Trained, options: AutoencoderOptions, count: int = 256) -> dict[str, Any]:
    """Measure an autoencoder, write card, loss and sheet into its folder."""
    facts = mark_autoencoder(trained.folder, options.kind, options.bank.size, count, trained.folder / SHEET)
    codes = f" These scenes use {facts['codes']} codes." if options.kind == VQ else ""
    text = f"PSNR over {count} unseen scenes: {facts['psnr']} dB, the worst {facts['worst']} dB.{codes}"
    return _write(options.kind, trained, options.plan, asdict(options), facts, text)


def describe_diffusion(trained: Trained, options: DiffusionOptions, count: int = 64) -> dict[str, Any]:
    """Draw samples of a diffusion model, write card, loss and sheet into its folder."""
    from simat.generators.model import load
    from simat.generators.options import ModelOptions

    sample_sheet(trained.folder / SHEET, load(ModelOptions(str(trained.folder.absolute()), device="cpu")), count)
    text = f"`{SHEET}`: {count} captions drawn at random, none left out; {STEPS} DDIM steps, guidance {GUIDANCE:g}."
    told = asdict(options) | {"start": options.start is not None}
    return _write("diffusion", trained, options.plan, told, {}, text, _earlier(options.start))


def describe_judge(trained: Trained, options: JudgeOptions, count: int = 500) -> dict[str, Any]:
    """Measure one half of the judge, write card and loss into its folder."""
    facts = mark_judge(trained.folder, options.part, options.bank.size, count)
    lines = [f"- {kind}: " + ", ".join(f"{name} {value:.3f}" for name, value in facts[kind].items()) for kind in facts]
    text = f"Over {count} unseen scenes, as drawn and spoiled:\n" + "\n".join(lines)
    return _write(options.part, trained, options.plan, asdict(options), facts, text)


def _earlier(start: Path | None) -> list[dict[str, Any]]:
    """The course of the training that made the weights another one began with; nothing where it is not told."""
    path = None if start is None else start / LOSS
    return json.loads(path.read_text())["loss"] if path is not None and path.exists() else []


def _write(
    name: str,
    trained: Trained,
    plan: Plan,
    options: Mapping[str, Any],
    facts: dict[str, Any],
    figures: str,
    earlier: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    folder, (title, what, how) = trained.folder, _ABOUT[name]
    bank, before = options["bank"], earlier[-1]["step"] if earlier else 0
    history = [*earlier, *({**point, "step": before + point["step"]} for point in trained.history)]
    begun = f"Begun with the weights of an earlier training of {before} steps." if before else ""
    begin = " --begin FOLDER" if options.get("start") else ""
    told = {
        "folder": str(folder), "steps": trained.step, "seconds": round(trained.seconds), "device": trained.device,
        "parameters": trained.parameters, "loss": trained.history[-1]["loss"], "sha256": _hashes(folder),
    }  # fmt: skip
    document = {"options": options, "device": trained.device, "seconds": told["seconds"], "loss": history}
    write_text(folder / LOSS, json.dumps(document) + "\n")
    plot_loss(folder / CURVE, history, title)
    size = human(sum(path.stat().st_size for path in folder.rglob("*.safetensors")))
    lines = [
        f"# {title}", "", what, f"{trained.parameters:,} parameters, {size} in half precision.", "", "## Training",
        f"{trained.step} steps × {plan.batch} of {bank['images']:,} scenes of {bank['size']} × {bank['size']} pixels, "
        f"seed {plan.seed}, {told['seconds']} s of computing on {trained.device}; AdamW at {plan.rate:g} with warm-up "
        f"and cosine, bfloat16. {how} {begun}".strip(), f"Last loss {told['loss']:g}; `{LOSS}`, `{CURVE}`. Made by "
        f"`simat train-scenes {_command(name)} --seed {plan.seed} --steps {plan.steps}{begin}`.", "",
        "## Figures", *figures.split("\n"), "", "## Limits", _LIMITS[name],
    ]  # fmt: skip
    write_text(folder / CARD, "\n".join(textwrap.fill(line, 120) for line in lines) + "\n")
    return told | facts


def _command(name: str) -> str:
    return name if name in {"autoencoder", "vq", "diffusion"} else "judge"


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*.safetensors"))}
