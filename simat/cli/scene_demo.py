"""The demonstration's world: scenes are rendered, made a SIMAT corpus, indexed, and every answer can be marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simat.engine import Engine
    from simat.types import Result

SCENES = 4000  # about four pictures of every triplet
SEED = 0
WORDS = ("a dog riding a skateboard", "an elephant holding a balloon", "a bird sitting on a horse")
FIELDS = ("subj", "rel", "obj")
SLOT = {"subj": 0, "rel": 1, "obj": 2}

Triplet = tuple[str, str, str]


@dataclass(frozen=True)
class Question:
    """A query of the corpus: an image, the word to change, the word to put there, and what a right answer shows."""

    image: Path
    field: str
    source: str
    target: str
    goal: Triplet

    @property
    def edit(self) -> str:
        """The edit as a person writes it."""
        return f"{self.source} -> {self.target}"


def commands(out: Path, images: int) -> list[list[str]]:
    """What makes the corpus and its index, as a person would; finished steps are left out."""
    scenes, corpus, index = out / "scenes", out / "corpus", out / "index"
    rendering = ["data", "scenes", str(scenes), "--images", str(images), "--size", "128", "--seed", str(SEED)]
    building = ["data", "simat", "build", str(scenes / "visual_genome"), str(corpus)]
    indexing = ["index", "build", str(corpus / "images"), str(index), "--encoder", "scenes"]
    steps = [] if (scenes / "manifest.json").is_file() else [rendering]
    steps += [] if (corpus / "manifest.json").is_file() else [building]
    return [*steps, indexing]


class Marker:
    """Marks answers by the annotations of a SIMAT corpus of rendered scenes."""

    def __init__(self, corpus: Path) -> None:
        import pyarrow.parquet as pq

        self._images = corpus / "images"
        columns = ["region_id", "subj", "rel", "obj", "image"]
        rows = pq.read_table(corpus / "regions.parquet", columns=columns).to_pylist()
        self._shown: Mapping[str, Triplet] = {row["image"]: (row["subj"], row["rel"], row["obj"]) for row in rows}
        self._files = {row["region_id"]: row["image"] for row in rows}
        self._queries = pq.read_table(corpus / "queries.parquet").to_pylist()

    def questions(self, count: int, field: str | None = None) -> list[Question]:
        """Queries of the corpus drawn at random, of one field or of any; the draw depends on nothing else."""
        import numpy as np

        pool = [row for row in self._queries if field in {None, row["field"]}]
        chosen = np.random.default_rng(SEED).permutation(len(pool))[:count]
        return [self._question(pool[i]) for i in chosen]

    def right(self, results: Sequence[Result], goal: Triplet) -> list[bool]:
        """Which results show the triplet that was asked for."""
        return [result.path is not None and self._shown[result.path.name] == goal for result in results]

    def share_right(self, engine: Engine, questions: Sequence[Question]) -> float:
        """Share of the questions whose first answer is right, at λ = 1."""
        right = [self.right(engine.edit(q.image, q.edit, k=1).results, q.goal)[0] for q in questions]
        return sum(right) / len(right)

    def chance(self, questions: Sequence[Question]) -> float:
        """What an answer drawn at random would reach: the mean share of images that are right."""
        shown = list(self._shown.values())
        return sum(shown.count(q.goal) for q in questions) / len(shown) / len(questions)

    def _question(self, row: Mapping[str, Any]) -> Question:
        name = self._files[row["region_id"]]
        goal = [*self._shown[name]]
        goal[SLOT[row["field"]]] = row["target"]
        subject, relation, thing = goal
        image = self._images / name
        return Question(image, row["field"], row["value"], row["target"], (subject, relation, thing))
