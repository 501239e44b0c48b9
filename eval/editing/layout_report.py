"""Measure pictures drawn by layouts: where things lie, whether the words are met, how real they look (thesis 6.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from eval.editing.answers import Made, Store, answered
from eval.editing.cases import Case, LayoutCase
from eval.editing.layouts import compare
from eval.editing.meters import pictures_of, spread
from eval.editing.published import COCO_STUFF, beside
from eval.editing.report import Report
from eval.editing.sets import Reals, look_at
from eval.editing.settings import Setting
from eval.editing.summary import Measured
from eval.figures import Chart, Line, curves
from eval.intervals import Estimate
from eval.judge import Segmenter
from eval.metrics.clip_score import clip_scores
from eval.metrics.estimates import mean_iou_of, mean_of
from eval.metrics.features import Extractor
from eval.metrics.naming import metric_name
from eval.tables import Cell, Table
from simat.errors import StorageError
from simat.progress import Progress, Silent
from simat.types import Encoder

SEGMENTS, CLIP = "segments", "clip"
STUFF = "coco-stuff"


@dataclass(frozen=True, eq=False)
class Eyes:
    """The networks that look at what was drawn.

    Attributes:
        segmenter: says what lies where.
        encoder: of CLIPScore, with its name; None for no such figure.
        extractor: of FID; None for no such figure.
    """

    segmenter: Segmenter
    encoder: tuple[Encoder, str] | None = None
    extractor: Extractor | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one setting came to.

    Attributes:
        measured: its answers, and segment IoU and CLIPScore of each.
        mean_iou: over the classes, with its interval.
    """

    measured: Measured
    mean_iou: Estimate | None
    together: Mapping[str, float] = field(default_factory=dict)


def measure_layouts(
    cases: Sequence[LayoutCase],
    settings: Sequence[Setting],
    store: Store,
    eyes: Eyes,
    model: str,
    seed: int,
    progress: Progress | None = None,
) -> list[Drawn]:
    """Every setting's answers so far, by a model from a seed.

    Raises:
        StorageError: nothing was answered.
        EncoderError: the segmenter does not know the class of a segment.
    """
    bars, found = progress or Silent(), []
    reals = _reals(cases, eyes)
    bars.start("measures", len(settings), "settings")
    for setting in settings:
        kept, made = answered(store, setting, cases, model, seed)
        if any(one.refused is None for one in made):
            found.append(_drawn(setting, kept, made, eyes, reals))
        bars.advance(1)
    if not found:
        raise StorageError("no answer is there yet", got=str(store.folder))
    return found


def layout_report(corpus: str, drawn: Sequence[Drawn], eyes: Eyes) -> Report:
    """A table of one protocol, and FID against mIoU (thesis Table 6.1, Figure 6.10)."""
    measured = [one.measured for one in drawn]
    protocol = measured[0].kind
    published = COCO_STUFF.get(protocol, {}) if corpus == STUFF else {}
    miou = metric_name("mIoU", eyes.segmenter.name)
    clip = metric_name("CLIPScore", eyes.encoder[1]) if eyes.encoder else ""
    fid = metric_name("FID", eyes.extractor.name) if eyes.extractor else ""
    names = [name for name in (fid, miou, clip) if name]
    theirs = [n for n in names if any(beside(published, one.setting.variant, n) is not None for one in measured)]
    heads = ["Setting", "Layouts", "Refused", miou, "Segment IoU", *filter(None, (clip, fid)), "Seconds"]
    heads += [f"{name} in the thesis" for name in theirs]
    rows = [_row(one, bool(clip), fid, [beside(published, one.measured.setting.variant, n) for n in theirs])
            for one in drawn]  # fmt: skip
    title = f"{corpus}: Eval-{protocol}"
    note = "Pixels without a segment count nowhere in mIoU; in segment IoU they do."
    table = Table(f"layouts-{protocol}", title, tuple(heads), tuple(rows), note, decimals=2)
    return Report(measured, [table], _charts(f"layouts-{protocol}", title, drawn, fid, miou))


def _row(one: Drawn, has_clip: bool, fid: str, theirs: Sequence[float | None]) -> tuple[Cell, ...]:
    measured = one.measured
    cells: list[Cell] = [measured.setting.label, len(measured.made)]
    cells += [sum(made.refused is not None for made in measured.made), one.mean_iou]
    cells += [mean_of(measured.values[SEGMENTS])]
    cells += [mean_of(measured.values[CLIP] / 100)] if has_clip else []
    cells += [one.together.get(fid)] if fid else []
    return (*cells, f"{measured.seconds:.2f}", *theirs)


def _drawn(setting: Setting, kept: Sequence[Case], made: Sequence[Made], eyes: Eyes, reals: Reals | None) -> Drawn:
    rows = [n for n, one in enumerate(made) if one.refused is None]
    chosen = [case for n in rows if isinstance(case := kept[n], LayoutCase)]
    shown = [made[n] for n in rows]
    layouts, pictures = compare(eyes.segmenter, chosen, shown), pictures_of(shown)
    values = {SEGMENTS: spread(layouts.segment_ious, rows, len(made))}
    if eyes.encoder is not None:
        scores = clip_scores(eyes.encoder[0], pictures, [case.text for case in chosen])
        values[CLIP] = spread(scores, rows, len(made))
    together = reals.distances(pictures) if reals is not None and len(pictures) > 1 else {}
    measured = Measured(setting, kept[0].kind, kept, made, values, together)
    return Drawn(measured, mean_iou_of(layouts.matrices), together)


def _reals(cases: Sequence[LayoutCase], eyes: Eyes) -> Reals | None:
    pictures: list[Image.Image] = [picture for case in cases if (picture := case.picture()) is not None]
    return look_at(eyes.extractor, pictures) if eyes.extractor is not None and len(pictures) > 1 else None


def _charts(name: str, title: str, drawn: Sequence[Drawn], fid: str, miou: str) -> list[Chart]:
    """One curve per backend, over whatever was swept; smaller FID and larger mIoU are better."""
    points: dict[str, list[tuple[float, float]]] = {}
    for one in drawn:
        if one.mean_iou is not None and fid in one.together:
            pair = (one.together[fid], 100 * one.mean_iou.value)
            points.setdefault(one.measured.setting.backend, []).append(pair)
    lines = [Line(backend, [x for x, _ in sorted(pairs)], [y for _, y in sorted(pairs)])
             for backend, pairs in points.items()]  # fmt: skip
    return [curves(f"{name}-miou-fid", title, lines, (fid, f"{miou}, %"))] if lines else []
