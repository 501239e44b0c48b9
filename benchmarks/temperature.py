"""What the temperature does to delta vectors, on scenes: thesis Figure 3.5 for several pairs of encoders.

Heads are trained on whole scenes with five captions each, at several temperatures; the SIMAT score is that of other
scenes' crops, marked by their annotations, on the dev half. The unmodified encoder, where both towers share a space,
is the thesis's vanilla curve; two towers that never met have none, so heads at their first weights stand for chance.
Everything made on the way stays in WORK, where another run finds it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Facts, cores, parser, run
from data.corpus import Corpus
from data.scenes.build import SceneOptions, build_scenes
from data.simat.build import Options, Sources, build_corpus
from data.simat.vocabulary import VOCABULARY_FILE, read_vocabulary
from data.visual_genome.regions import ReadingOptions, read_regions
from eval.simat_score import Judge, Task, annotation_judge, delta_score, read_task
from finetune.cache import build_cache
from finetune.config import TrainConfig
from finetune.pairs import Features, open_features
from finetune.sweep import folder_name, sweep
from simat.cli.console import progress
from simat.embeddings import EmbeddingSet
from simat.encoders import load_tower
from simat.encoders.combined import Parts
from simat.encoders.runtime import RuntimeOptions
from simat.heads import Heads, load_heads
from simat.progress import Progress
from simat.types import TextEncoder
from simat.vectors import unit_rows

SIZE, TRAIN_SEED, TEST_SEED = 128, 11, 12
TAUS = (0.01, 0.03, 0.1, 0.3, 1.0)
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
FASTTEXT = {"model": "skipgram", "dim": 100, "epoch": 5, "minCount": 1, "thread": 1, "verbose": 0}
Scores = Mapping[float, float]


@dataclass(frozen=True)
class Work:
    """The folder of a run, and what lies in it; whatever is missing is made."""

    folder: Path
    images: int
    test_images: int
    bars: Progress

    @cached_property
    def training(self) -> Corpus:
        """Whole scenes with captions."""
        return Corpus(self._scenes("training", self.images, TRAIN_SEED))

    @cached_property
    def simat(self) -> Corpus:
        """Crops of other scenes, with queries."""
        out = self.folder / "simat"
        if not (out / "manifest.json").is_file():
            raw = self._scenes("test", self.test_images, TEST_SEED) / "visual_genome"
            words = read_vocabulary(raw / VOCABULARY_FILE)
            regions = read_regions(raw, self.bars, options=ReadingOptions(words))
            build_corpus(regions, out, Options(), Sources(images=raw), progress=self.bars)
        return Corpus(out, "simat")

    @cached_property
    def fasttext(self) -> Path:
        """Word vectors trained on the captions."""
        path = self.folder / "captions.bin"
        if not path.is_file():
            import fasttext

            text = self.folder / "captions.txt"
            rows = self.training.table("scenes")["captions"].to_pylist()
            text.write_text("\n".join(caption for captions in rows for caption in captions) + "\n")
            fasttext.train_unsupervised(str(text), **FASTTEXT).save_model(str(path))
        return path

    def features(self, name: str, image: str, text: str, corpus: Corpus, options: RuntimeOptions) -> Path:
        """Frozen features of a corpus."""
        out = self.folder / f"{name}-{corpus.folder.name}"
        if not (out / "cache.json").is_file():
            towers = Parts(image, text).load(options)
            build_cache(corpus, *towers, out, cores(), self.bars)
        return out

    def _scenes(self, name: str, images: int, seed: int) -> Path:
        out = self.folder / name
        if not (out / "manifest.json").is_file():
            build_scenes(out, SceneOptions(images, SIZE, seed), cores(), self.bars)
        return out


@dataclass(frozen=True)
class Study:
    """The test side of one pair of encoders: images and words before any head."""

    task: Task
    judge: Judge
    images: np.ndarray
    words: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, work: Work, cache: Path, text: str, options: RuntimeOptions) -> Study:
        """Encode the words of the queries; the images' features are in the cache."""
        stored = EmbeddingSet(cache / "images")
        task = read_task(work.simat, "dev")
        encoder = load_tower(text, options)
        assert isinstance(encoder, TextEncoder)
        words = sorted({word for edit in task.edits for word in edit})
        vectors = dict(zip(words, unit_rows(encoder.encode_texts(words)), strict=True))
        order = _rows(work.simat, stored)
        return cls(task, annotation_judge(work.simat), unit_rows(stored.vectors(order)), vectors)

    def scores(self, heads: Heads | None) -> Scores:
        """The SIMAT score by λ."""
        words = [*self.words]
        stacked = np.stack([self.words[word] for word in words])
        images = self.images if heads is None else heads.project_images(self.images)
        said = stacked if heads is None else heads.project_texts(stacked)
        place = {word: row for row, word in enumerate(words)}
        deltas = np.stack([said[place[b]] - said[place[a]] for a, b in self.task.edits])
        return {scale: delta_score(images, deltas, self.task, self.judge, scale).total for scale in SCALES}


def _rows(corpus: Corpus, stored: EmbeddingSet) -> np.ndarray:
    """The row of each region's crop in an embedding set."""
    places = {row.path: number for number, row in enumerate(stored.rows(np.arange(len(stored))))}
    return np.array([places[image] for image in corpus.table("regions")["image"].to_pylist()])


def untrained(features: Features, config: TrainConfig) -> Heads:
    """Heads at their first weights."""
    import torch

    from finetune.modules import HeadPair, heads_of

    torch.manual_seed(config.seed)
    module = HeadPair(features.image_space.dim, features.text_space.dim, config)
    return heads_of(module, features.image_space, features.text_space, config, {})


def pairs(work: Work, wanted: str) -> Iterator[tuple[str, str, str]]:
    """Name, image tower and text tower of the pairs to study."""
    towers = {
        "efficientnet-minilm": ("efficientnet", "minilm"),
        "efficientnet-fasttext": ("efficientnet", f"fasttext:{work.fasttext}"),
        "scenes": ("scenes", "scenes"),
    }
    for name in wanted.split(","):
        yield name, *towers[name]


def measure(options: argparse.Namespace) -> Facts:
    options.work.mkdir(parents=True, exist_ok=True)
    runtime = RuntimeOptions(precision=options.precision)
    facts: Facts = {}
    with progress() as bars:
        work = Work(options.work, options.images, options.test_images, bars)
        corpus = work.simat.manifest.counts
        facts["corpus"] = {"training_images": options.images, **{n: corpus[n] for n in ("regions", "queries dev")}}
        for name, image, text in pairs(work, options.pairs):
            curves = _curves(work, name, image, text, options, runtime)
            facts[name] = {label: _summary(scores) for label, scores in curves.items()}
            _write(work.folder / f"temperature-{name}", name, curves)
    return facts


def _curves(
    work: Work, name: str, image: str, text: str, options: argparse.Namespace, runtime: RuntimeOptions
) -> dict[str, Scores]:
    features = open_features(work.features(name, image, text, work.training, runtime))
    study = Study.of(work, work.features(name, image, text, work.simat, runtime), text, runtime)
    config = TrainConfig(tau=TAUS[0], epochs=options.epochs, batch=options.batch, dim=options.dim)
    out = work.folder / f"heads-{name}"
    sweep(features, out, TAUS, config, "auto", work.bars)
    vanilla = None if image == text else untrained(features, replace(config, tau=0.1))
    label = "vanilla" if image == text else "untrained heads"
    heads = {f"τ = {tau:g}": load_heads(out / folder_name(tau)) for tau in TAUS}
    return {label: study.scores(vanilla), **{key: study.scores(one) for key, one in heads.items()}}


def _summary(scores: Scores) -> Facts:
    best = max(scores, key=lambda scale: scores[scale])
    return {"at λ=1": round(100 * scores[1.0], 2), "best": round(100 * scores[best], 2), "best λ": best}


def _write(path: Path, title: str, curves: Mapping[str, Scores]) -> None:
    lines = ["| λ | " + " | ".join(curves) + " |", "|---" * (len(curves) + 1) + "|"]
    for scale in SCALES:
        lines.append(f"| {scale:g} | " + " | ".join(f"{100 * scores[scale]:.1f}" for scores in curves.values()) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    _draw(path.with_suffix(".png"), title, curves)


def _draw(path: Path, title: str, curves: Mapping[str, Scores]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes: Any = figure.subplots()
    for label, scores in curves.items():
        plain = not label.startswith("τ")
        style = {"color": "black", "ls": "--"} if plain else {}
        axes.plot(
            [*scores], [100 * value for value in scores.values()], "o-" if not plain else "s", label=label, **style
        )
    axes.set(xlabel="scaling factor λ", ylabel="SIMAT score on dev, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=140)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("work", type=Path, help="folder for corpora, features and heads")
    arguments.add_argument("--pairs", default="efficientnet-minilm,efficientnet-fasttext,scenes")
    arguments.add_argument("--images", type=int, default=20_000, help="scenes to train on")
    arguments.add_argument("--test-images", type=int, default=5_000, help="scenes to score on")
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--batch", type=int, default=1024)
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--precision", default="f32", help="of the encoders: f32 or bf16")
    run(arguments, measure)
