"""The card of a trained encoder: what it was made of, what it can do, what it cannot."""

from __future__ import annotations

import json
from dataclasses import asdict
from string import Template
from typing import Any

from finetune.scenes.dual import DualOptions
from finetune.scenes.folder import WEIGHTS
from finetune.scenes.measure import FIELDS, SCALES, measure
from finetune.scenes.trainer import Trained
from simat.encoders.open_clip import OpenClipEncoder, locate
from simat.encoders.runtime import RuntimeOptions
from simat.files import sha256_file, write_text

CARD, CURVE = "README.md", "loss.json"
_TEXT = Template("""\
# Dual encoder of the scene world

Pictures of simat's picture-book world and English sentences about them on one sphere of $dim dimensions, in open_clip's
layout: `open_clip.create_model("local-dir:FOLDER")`, or the encoder `scenes` of simat. It knows $words words; any other
word is `<unk>`. $parameters parameters, $size kB in half precision.

## Towers
Pictures: a residual network with attention pooling (CLIP's ModifiedResNet), blocks $layers, width $width, $edge × $edge
pixels, pictures of other shapes brought to a square by `$resize`. Texts: a causal transformer, $text_layers layers of
width $text_width, $context tokens.

## Training
$steps steps × $batch freshly drawn scenes, seed $seed, $seconds s of computing on $device. Whole scenes and crops
around subject and object in equal shares, drawn at 64 and at 128 pixels. Prompts: the captions of the scene, the
caption of its triplet in a SIMAT corpus, and for three in ten bare words: of a thing, a relation, a colour or a place.
Symmetric InfoNCE at temperature $temperature without false negatives, AdamW at $rate with warm-up and cosine,
bfloat16, the moving average of the weights. Last loss $loss; the curve is in `$curve`.
Made by `simat train-scenes dual --seed $seed --steps $planned`, taken at step $steps.

## Figures
On scenes of other seeds, drawn at 128 pixels: one scene for each of $gallery triplets, $held_out of which training
never saw. `R@1`: the caption's own scene comes first. Word and caption deltas: picture + λ·(target − source), the
source left out; right is the one scene of the target triplet, whose place, colours and facing are others. By chance:
$chance.

| pictures | R@1 | R@1 of unseen triplets |
|---|---|---|
$found

| subject / relation / object | λ | word delta | caption delta |
|---|---|---|---|
$deltas

Questions by field: $questions.

## Limits
It knows drawings of this world and nothing of photographs. It was trained on scenes with one subject and one object, so
counts, negation and further things in a sentence mean nothing to it. Left and right are those of the subject.
""")


def describe(trained: Trained, options: DualOptions, gallery: int) -> dict[str, Any]:
    """Measure a trained encoder and write card and loss curve into its folder.

    Returns:
        Everything that the card tells, under stable names.
    """
    encoder = OpenClipEncoder(
        "scenes", locate(str(trained.folder.absolute())), RuntimeOptions(device="torch", threads=1)
    )
    facts = {
        "folder": str(trained.folder),
        "steps": trained.step,
        "seconds": round(trained.seconds),
        "loss": trained.history[-1]["loss"],
        "parameters": trained.parameters,
        "sha256": sha256_file(trained.folder / WEIGHTS),
        "whole": measure(encoder, options.seed, gallery),
        "crops": measure(encoder, options.seed, gallery, cropped=True),
    }
    write_text(
        trained.folder / CURVE, json.dumps({"options": asdict(options), "loss": trained.history}, indent=1) + "\n"
    )
    write_text(trained.folder / CARD, _card(trained, options, facts))
    return facts


def _card(trained: Trained, options: DualOptions, facts: dict[str, Any]) -> str:
    shape, whole = options.shape, facts["whole"]
    return _TEXT.substitute(
        dim=shape.dim, words=shape.model["text_cfg"]["vocab_size"] - 4, parameters=f"{trained.parameters:,}",
        size=f"{(trained.folder / WEIGHTS).stat().st_size / 1000:,.0f}", layers=shape.layers, width=shape.width,
        edge=shape.size, resize=shape.resize, text_layers=shape.text_layers, text_width=shape.text_width,
        context=shape.context, planned=options.steps, steps=trained.step, batch=options.batch, seed=options.seed,
        seconds=facts["seconds"], device=trained.device, temperature=options.temperature, rate=options.rate,
        loss=facts["loss"], curve=CURVE,
        gallery=whole["gallery"], held_out=whole["held_out"], chance=f"{1 / whole['gallery']:.4f}",
        found="\n".join(_found(name, facts[key]) for name, key in (("whole", "whole"), ("crops", "crops"))),
        deltas="\n".join(_delta(name, scale, facts[name]["delta"]) for name in ("whole", "crops") for scale in SCALES),
        questions=", ".join(f"{count:,} {name}" for name, count in zip(FIELDS, whole["questions"], strict=True)),
    )  # fmt: skip


def _found(name: str, facts: dict[str, Any]) -> str:
    return f"| {name} | {facts['found']:.3f} | {facts['found_held_out']:.3f} |"


def _delta(name: str, scale: float, delta: dict[str, Any]) -> str:
    cells = (" / ".join(f"{delta[kind][str(scale)][field]:.2f}" for field in FIELDS) for kind in ("word", "caption"))
    return f"| {name} | {scale:g} | {' | '.join(cells)} |"
