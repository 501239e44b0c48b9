"""The protocols of edits: which cases, what is measured of their answers, and through which networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from eval.editing.cases import EditCase
from eval.editing.meters import (
    AccuracyMeter,
    ClipMeter,
    DistanceMeter,
    FactsMeter,
    MaskMeter,
    Meter,
    PixelMeter,
    ReconstructionMeter,
)
from eval.editing.published import IMAGENET
from eval.editing.sets import Reals, look_at
from eval.scene_edits import KINDS, scene_edits
from simat.errors import QueryError

SCENES, NONE = "scenes", "none"


@dataclass(frozen=True)
class EditOptions:
    """What to measure edits on.

    Attributes:
        subject: ``scenes``, a CSV of ImageNet queries, or a corpus of kind ``captions``.
        edits: cases of every kind; None for all of a corpus.
        seed: of the world and its edits.
        size: edge of scenes in pixels.
        images: folder of ImageNet's validation images.
        reals: folder of real pictures for SFID and CSFID, one subfolder per class.
        bison: BISON's annotations.
        filtered: of BISON, only queries of few word edits.
        development: of ImageNet's queries, the development set.
        distance, classifier, clip, features: extractors; None for the protocol's own, ``none`` for no such figure.
    """

    subject: str = SCENES
    edits: int | None = 200
    seed: int = 0
    size: int = 128
    images: Path | None = None
    reals: Path | None = None
    bison: Path | None = None
    filtered: bool = False
    development: bool = False
    distance: str | None = None
    classifier: str | None = None
    clip: str | None = None
    features: str | None = None


@dataclass(frozen=True, eq=False)
class EditProtocol:
    """Cases and what is measured of their answers.

    Attributes:
        name: of the protocol.
        cases: of all kinds, in turns: an interrupted run has as many of each.
        meters: one number per answer.
        reals: real pictures to compare all answers of a kind with; None for no such figure.
        published: the thesis's figures for the same data, by backend.
        note: what a reader must know.
    """

    name: str
    cases: Sequence[EditCase]
    meters: Sequence[Meter]
    reals: Callable[[], Reals] | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""


def edit_protocol(options: EditOptions) -> EditProtocol:
    """The protocol that some options ask for.

    Raises:
        QueryError: a corpus that needs another option.
        CorpusError: a corpus that cannot be read.
        EncoderError, ModelError: an extractor that cannot be had.
    """
    if options.subject == SCENES:
        return _scenes(options)
    if Path(options.subject).suffix == ".csv":
        return _imagenet(options)
    return _bison(options)


def _scenes(options: EditOptions) -> EditProtocol:
    from eval.judge import load_judge

    count = 200 if options.edits is None else options.edits
    of_kinds = [scene_edits(kind, count, options.seed, options.size) for kind in KINDS]
    cases = [case for turn in zip(*of_kinds, strict=True) for case in turn]
    meters: list[Meter] = [PixelMeter(), ReconstructionMeter(), MaskMeter()]
    note = ""
    if options.classifier != NONE:
        facts = FactsMeter(load_judge(options.classifier or SCENES))
        meters.append(facts)
        sure = 100 * float(facts.reliability(cases).mean())
        note = f"The judge sees the true triplet in {sure:.1f} % of the untouched pictures."
    meters += _common(options, distance="efficientnet", clip=SCENES)
    return EditProtocol(SCENES, cases, meters, _inputs(options, cases, "efficientnet"), {}, note)


def _imagenet(options: EditOptions) -> EditProtocol:
    from eval.editing.imagenet import allowed_classes, imagenet_edits, real_pictures
    from eval.metrics.accuracy import load_classifier
    from eval.metrics.features import load_extractor

    if options.images is None:
        raise QueryError("ImageNet's queries need the validation images", remedy="give their folder with --images")
    cases = imagenet_edits(Path(options.subject), options.images, options.edits, test=not options.development)
    meters: list[Meter] = [PixelMeter()]
    if options.classifier != NONE:
        spec = options.classifier or "timm:deit_base_distilled_patch16_384"
        meters.append(AccuracyMeter(load_classifier(spec), allowed_classes()))
    meters += _common(options, distance="alex", clip=NONE)
    reals, targets = None, {case.target[1] for case in cases if case.target is not None}
    if options.reals is not None and options.features != NONE:
        folder, extractor = options.reals, load_extractor(options.features or "inception")

        def reals() -> Reals:
            return look_at(extractor, real_pictures(folder, targets))

    published = {} if options.development else IMAGENET
    return EditProtocol("imagenet", cases, meters, reals, published, "Real pictures: as many as are at hand per class.")


def _bison(options: EditOptions) -> EditProtocol:
    from data.corpus import Corpus
    from eval.editing.coco import CAPTIONS, bison_edits

    if options.bison is None:
        raise QueryError("edits on captions need BISON's annotations", remedy="give them with --bison")
    cases = bison_edits(Corpus(Path(options.subject), CAPTIONS), options.bison, options.edits, options.filtered)
    meters = [PixelMeter(), *_common(options, distance="alex", clip="open_clip:ViT-B-32-quickgelu/openai")]
    return EditProtocol("bison", cases, meters, _inputs(options, cases, "inception"))


def _common(options: EditOptions, distance: str, clip: str) -> list[Meter]:
    from eval.metrics.perceptual import load_distance
    from simat.encoders import load_encoder

    meters: list[Meter] = []
    far, agreeing = options.distance or distance, options.clip or clip
    if far != NONE:
        meters.append(DistanceMeter(load_distance(far)))
    if agreeing != NONE:
        meters.append(ClipMeter(load_encoder(agreeing), agreeing))
    return meters


def _inputs(options: EditOptions, cases: Sequence[EditCase], usual: str) -> Callable[[], Reals] | None:
    """FID against the pictures that were edited: they are what pictures of this corpus look like."""
    from eval.metrics.features import load_extractor

    spec = options.features or usual
    if spec == NONE:
        return None
    extractor = load_extractor(spec)

    def reals() -> Reals:
        pictures: list[Image.Image] = [case.picture() for case in cases]
        return look_at(extractor, pictures)

    return reals
