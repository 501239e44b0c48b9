"""The study of chapter 3: several spaces on one bench, every vector and every score computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.captioned import captioned_images
from data.corpus import MANIFEST, Corpus
from eval.bench import Bench
from eval.captioned import Captioned, Recalls, captioned, recalls
from eval.intervals import Estimate, estimates
from eval.measure import Outcome, curve, measure
from eval.methods import METHODS, Setting, foreign_captions, set_up
from eval.published import BEST_TAU, thesis_name
from eval.scales import Curve
from eval.spaces import Space, Towers
from simat.errors import QueryError
from simat.files import sha256_file
from simat.heads import DOCUMENT, Heads, load_heads
from simat.progress import Progress, Silent

CURVE_SCALES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
CHOICES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # the values of λ to choose from on dev
SENTENCE_SCALES = (1.0, 1.2, 1.5)


@dataclass(frozen=True, eq=False)
class Family:
    """Two towers, as they are and behind heads of several temperatures.

    Attributes:
        name: of the towers.
        plain: the towers' own space; None where they share none.
        tuned: behind heads, by rising τ.
    """

    name: str
    plain: Space | None
    tuned: tuple[Space, ...] = ()

    @property
    def main(self) -> Space:
        """The space of Tables 3.2 and 3.3: behind the heads whose τ is nearest to 0.1, else the towers' own."""
        if self.tuned:
            return min(self.tuned, key=lambda space: abs(math.log((space.tau or 1) / BEST_TAU)))
        assert self.plain is not None, "a family has a space"
        return self.plain

    @property
    def spaces(self) -> tuple[Space, ...]:
        """All of them."""
        return (*([self.plain] if self.plain else []), *self.tuned)

    @property
    def towers(self) -> tuple[str, str]:
        """The thesis's names of the image and the text encoder, or their specs."""
        image, text = self.main.towers.image.space.encoder, self.main.towers.text.space.encoder
        return thesis_name(image) or image, thesis_name(text) or text


@dataclass(eq=False)
class Study:
    """Families of spaces on a bench.

    Attributes:
        bench: corpus, queries, oracle, seed.
        families: at least one.
        captions: a corpus of captions: for R@1, and for sentences that are not the evaluation's own.
        bank: a corpus whose captions describe images in the composers' table, beside the evaluation's own.
        scales: the values of λ of Figure 3.5.
        progress: told of what is encoded.
    """

    bench: Bench
    families: Sequence[Family]
    captions: Corpus | None = None
    bank: Corpus | None = None
    scales: Sequence[float] = CURVE_SCALES
    progress: Progress = field(default_factory=Silent)
    _settings: dict[int, Setting] = field(default_factory=dict)
    _outcomes: dict[tuple[int, str], Outcome] = field(default_factory=dict)
    _curves: dict[tuple[int, str], Curve] = field(default_factory=dict)
    _recalls: dict[int, Recalls] = field(default_factory=dict)
    _captioned: Captioned | None = None

    def setting(self, space: Space) -> Setting:
        """A space with its vectors."""
        if id(space) not in self._settings:
            outside = self.captioned.captions if self.captions is not None else ()
            self._settings[id(space)] = set_up(self.bench, space, outside, self.progress, self.foreign)
        return self._settings[id(space)]

    def outcome(self, space: Space, method: str) -> Outcome:
        """A method measured on the test domain; λ chosen on dev."""
        key = (id(space), method)
        if key not in self._outcomes:
            also = (3.0, *SENTENCE_SCALES) if method in {"delta", "own_sentences", "sentence_delta"} else ()
            self._outcomes[key] = measure(self.setting(space), METHODS[method], self.bench.test, CHOICES, (1, 5), also)
        return self._outcomes[key]

    @cached_property
    def foreign(self) -> Sequence[str]:
        """The captions of the bank that are none of the evaluation's own; empty without a bank.

        Raises:
            CorpusError: a bank without captions.
            QueryError: a bank with no caption but the evaluation's own.
        """
        return bank_texts(self.bank, self.bench) if self.bank is not None else ()

    def dev_curve(self, space: Space, method: str = "delta") -> Curve:
        """The dev scores of a method over λ, as Figure 3.5 has them."""
        key = (id(space), method)
        if key not in self._curves:
            self._curves[key] = curve(self.setting(space), METHODS[method], self.bench.dev, self.scales)
        return self._curves[key]

    def dev_estimates(self, space: Space) -> list[Estimate]:
        """The scores of :meth:`dev_curve` with their intervals, all from one draw of images."""
        return estimates([one.success for one in self.dev_curve(space).scores], self.bench.dev, self.bench.rng())

    @property
    def captioned(self) -> Captioned:
        """The captioned images that retrieval is measured on.

        Raises:
            QueryError: no corpus of captions was given, or none with five captions an image.
        """
        if self.captions is None:
            raise QueryError("there is no corpus of captions", remedy="give one with --captions")
        if self._captioned is None:
            self._captioned = captioned(self.captions)
        return self._captioned

    def retrieval(self, space: Space) -> Recalls | None:
        """Text and Image R@1 on the corpus of captions; None where there is none."""
        if self.captions is None:
            return None
        if id(space) not in self._recalls:
            found = self.captioned
            images = space.images(self.captions, self.progress)[found.rows]
            self._recalls[id(space)] = recalls(images, space.texts(found.captions), (1, 5, 10))
        return self._recalls[id(space)]

    def configuration(self) -> dict[str, Any]:
        """Everything that the results depend on, as JSON holds it; no paths but those in specs, no times."""
        spaces = {space.name: asdict(space.space) | {"tau": space.tau} for f in self.families for space in f.spaces}
        return {
            "corpus": _corpus(self.bench.corpus),
            "captions": None if self.captions is None else _corpus(self.captions),
            "bank": None if self.bank is None else _corpus(self.bank),
            "oracle": self.bench.oracle.name,
            "seed": self.bench.seed,
            "spaces": spaces,
            "scales of Figure 3.5": [*self.scales],
            "scales that λ is chosen from": [*CHOICES],
            "versions": {"simat": _version(), "numpy": np.__version__},
        }


def find_families(encoders: Sequence[str], sweeps: Sequence[Path], taus: Sequence[float] = ()) -> list[Family]:
    """The spaces of encoders and of folders of heads, grouped by their towers.

    Args:
        encoders: specs.
        sweeps: folders of heads, or folders that hold such folders (``tau=0.1/`` and so on).
        taus: only heads of these temperatures; empty for all.

    Raises:
        QueryError: neither an encoder nor a sweep, or no heads of a temperature that was asked for.
        StorageError: a folder without heads.
        EncoderError: an encoder that cannot be loaded.
    """
    from simat.encoders import load_towers

    heads = [one for folder in sweeps for one in _heads(folder)]
    for tau in taus:
        if not any(math.isclose(tau, one.tau) for one in heads):
            known = ", ".join(f"{t:g}" for t in sorted({one.tau for one in heads}))
            raise QueryError(f"no heads of temperature {tau:g}", got=known or "no heads", remedy="see --sweep")
    kept = [one for one in heads if not taus or any(math.isclose(tau, one.tau) for tau in taus)]
    groups = [(spec, Towers(*load_towers(spec)), list[Heads]()) for spec in dict.fromkeys(encoders)]
    for one in kept:
        group = next((group for group in groups if _fits(one, group[1])), None)
        if group is None:
            spec = _spec(one)
            group = (spec, Towers(*load_towers(spec)), [])
            groups.append(group)
        group[2].append(one)
    if not groups:
        raise QueryError("there is nothing to measure", remedy="give --encoder or --sweep")
    return [_family(*group) for group in groups]


def caption_texts(corpus: Corpus) -> tuple[str, ...]:
    """The captions of a corpus of captions or scenes.

    Raises:
        QueryError: as :func:`eval.captioned.captioned`.
    """
    return captioned(corpus, per_image=1).captions


def bank_texts(corpus: Corpus, bench: Bench) -> list[str]:
    """The captions of a corpus that are none of the bench's own.

    Raises:
        CorpusError: a corpus without captions.
        QueryError: none are left.
    """
    return foreign_captions((text for image in captioned_images(corpus) for text in image.captions), bench.captions)


def _family(spec: str, towers: Towers, heads: Sequence[Heads]) -> Family:
    tuned = tuple(Space(f"{spec}, τ = {one.tau:g}", towers, one) for one in sorted(heads, key=lambda one: one.tau))
    shared = towers.image.space.fingerprint == towers.text.space.fingerprint
    return Family(spec, Space(spec, towers) if shared or not tuned else None, tuned)


def _heads(folder: Path) -> list[Heads]:
    if (folder / DOCUMENT).is_file():
        return [load_heads(folder)]
    found = [load_heads(path.parent) for path in sorted(folder.glob(f"*/{DOCUMENT}"))]
    return found or [load_heads(folder)]  # which says that there are none


def _fits(heads: Heads, towers: Towers) -> bool:
    from simat.errors import SpaceMismatchError

    try:
        heads.check(towers.image.space, towers.text.space)
    except SpaceMismatchError:
        return False
    return True


def _spec(heads: Heads) -> str:
    image, text = heads.image_space.encoder, heads.text_space.encoder
    return image if image == text else f"combined:image={image},text={text}"


def _corpus(corpus: Corpus) -> dict[str, Any]:
    manifest = corpus.manifest
    return {
        "name": corpus.folder.name,
        "kind": manifest.kind,
        "sha256": sha256_file(corpus.folder / MANIFEST),
        "counts": dict(manifest.counts),
    }


def _version() -> str:
    from simat import __version__

    return __version__
