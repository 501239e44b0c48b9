"""From Visual Genome's own files to the regions of SIMAT (thesis, section 3.2.3), in a fixed amount of memory.

``relationships.json`` is streamed once; what the vocabulary keeps of it, some percent, decides what is looked up in the
other files, which are streamed after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from data.corpus import CorpusError
from data.regions import Box, Region
from data.simat.vocabulary import SIMAT, Vocabulary
from data.visual_genome.aliases import object_aliases, relation_aliases
from data.visual_genome.annotations import (
    ATTRIBUTES,
    IMAGE_DATA,
    OBJECTS,
    RELATIONSHIPS,
    Listener,
    Relationship,
    SkippedError,
    Words,
    read_attributes,
    read_known_ids,
    read_lists,
    read_sizes,
)
from data.visual_genome.boxes import area, intersection, merge_near_duplicates, union
from simat.progress import Progress, Silent

MIN_AREA = 64 * 64  # pixels; a crop must have more (thesis, section 3.2.3)
MAX_ASPECT = 4  # 1:4 to 4:1
NEAR_DUPLICATE_IOU = 0.8

REPEATED_ID = "relationship id repeated"
UNKNOWN_OBJECT = "object missing from objects.json"
UNKNOWN_SIZE = "image missing from image_data.json"
OUTSIDE_IMAGE = "box outside its image"
SMALL_CROP = "crop too small"
LONG_CROP = "crop too long"
MERGED = "near duplicate, merged"


@dataclass(frozen=True)
class ReadingOptions:
    """What is wanted of a data set.

    Attributes:
        vocabulary: subjects and relations.
        min_area: pixels; a crop must have more.
        official_object_aliases: use ``object_alias.txt`` too; the SIMAT release merged only a few objects.

    Raises:
        CorpusError: a negative area.
    """

    vocabulary: Vocabulary = SIMAT
    min_area: int = MIN_AREA
    official_object_aliases: bool = False

    def __post_init__(self) -> None:
        if self.min_area < 0:
            raise CorpusError("the least area of a crop is not negative", got=self.min_area)

    def words(self, folder: Path) -> Words:
        """The vocabulary with the aliases of a data set."""
        subjects, relations = self.vocabulary.subjects, self.vocabulary.relations
        return Words(
            frozenset(subjects),
            frozenset(relations),
            relation_aliases(folder, relations),
            object_aliases(folder, subjects, self.official_object_aliases),
        )


@dataclass
class ReadingReport:
    """What became of every relationship: ``relationships`` = regions + the sum of ``skipped``.

    Attributes:
        images, relationships: entries of ``relationships.json``.
        regions: how many regions came out.
        skipped: the others, by reason.
        missing_files: files that the folder lacks and that can be done without.
    """

    images: int = 0
    relationships: int = 0
    regions: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    missing_files: list[str] = field(default_factory=list)

    def as_counts(self) -> dict[str, int]:
        """Flat figures under stable names, none of which a corpus counts itself."""
        totals = {"images": self.images, "relationships": self.relationships, "regions": self.regions}
        counts = {f"annotated {name}": count for name, count in totals.items()}
        return counts | {f"skipped: {reason}": count for reason, count in sorted(self.skipped.items())}


def read_regions(
    folder: Path,
    progress: Progress | None = None,
    report: ReadingReport | None = None,
    options: ReadingOptions | None = None,
) -> list[Region]:
    """The regions of a folder with Visual Genome's files, sorted by image and region id.

    A region's id is the id of its relationship, the lowest of those merged into it.

    Args:
        folder: ``relationships.json`` and ``image_data.json``; if they are there, ``objects.json`` (relationships of
            objects that it lacks are left out), ``attributes.json`` and ``relationship_alias.txt``.
        report: a new report, to be filled in.
        options: the words of SIMAT, and crops of its size, by default.

    Raises:
        CorpusError: a file that is missing, cut off, damaged, or of another layout.
    """
    progress, report = progress or Silent(), report or ReadingReport()
    wanted = options or ReadingOptions()
    words = wanted.words(folder)
    relationships = _without_repeats(_read_relationships(folder, words, progress, report), report)
    relationships = _of_known_objects(folder, relationships, progress, report)
    attributes = _attributes(folder, relationships, progress, report)
    with _stage(progress, folder / IMAGE_DATA) as listen:
        sizes = read_sizes(folder, listen)
    candidates = [r for r in (_region(r, sizes, attributes, report) for r in relationships) if r is not None]
    merged = merge_near_duplicates(candidates, NEAR_DUPLICATE_IOU)
    report.skipped[MERGED] += len(candidates) - len(merged)
    regions = [region for region in merged if _has_good_shape(region.crop, wanted.min_area, report)]
    report.regions = len(regions)
    report.skipped = +report.skipped
    return regions


def _read_relationships(folder: Path, words: Words, progress: Progress, report: ReadingReport) -> list[Relationship]:
    found = []
    with _stage(progress, folder / RELATIONSHIPS) as listen:
        for image_id, items in read_lists(folder, RELATIONSHIPS, "relationships", listen):
            report.images += 1
            report.relationships += len(items)
            for item in items:
                try:
                    found.append(words.relationship(image_id, item))
                except SkippedError as skipped:
                    report.skipped[str(skipped)] += 1
    return found


def _without_repeats(relationships: list[Relationship], report: ReadingReport) -> list[Relationship]:
    """Of several with one id the first in sorted order, so that the order of the file does not matter."""
    unique: dict[int, Relationship] = {}
    for relationship in sorted(relationships):
        unique.setdefault(relationship.relationship_id, relationship)
    report.skipped[REPEATED_ID] += len(relationships) - len(unique)
    return list(unique.values())


def _of_known_objects(
    folder: Path, relationships: list[Relationship], progress: Progress, report: ReadingReport
) -> list[Relationship]:
    if not _is_there(folder / OBJECTS, progress, report):
        return relationships
    with _stage(progress, folder / OBJECTS) as listen:
        known = read_known_ids(folder, _object_ids(relationships), listen)
    kept = [r for r in relationships if r.subject_id in known and r.object_id in known]
    report.skipped[UNKNOWN_OBJECT] += len(relationships) - len(kept)
    return kept


def _attributes(
    folder: Path, relationships: list[Relationship], progress: Progress, report: ReadingReport
) -> dict[int, tuple[str, ...]]:
    if not _is_there(folder / ATTRIBUTES, progress, report):
        return {}
    with _stage(progress, folder / ATTRIBUTES) as listen:
        return read_attributes(folder, _object_ids(relationships), listen)


def _object_ids(relationships: list[Relationship]) -> set[int]:
    return {one for r in relationships for one in (r.subject_id, r.object_id)}


def _is_there(path: Path, progress: Progress, report: ReadingReport) -> bool:
    if not path.exists():
        report.missing_files.append(path.name)
        progress.note(f"going on without {path.name}: {path.parent} has none")
        return False
    return True


def _region(
    relationship: Relationship,
    sizes: Mapping[int, tuple[int, int]],
    attributes: Mapping[int, tuple[str, ...]],
    report: ReadingReport,
) -> Region | None:
    size = sizes.get(relationship.image_id)
    frame = (0, 0, *(size or (0, 0)))
    subject_box = intersection(relationship.subject_box, frame)
    object_box = intersection(relationship.object_box, frame)
    if not (area(subject_box) and area(object_box)):
        report.skipped[OUTSIDE_IMAGE if size else UNKNOWN_SIZE] += 1
        return None
    return Region(
        region_id=relationship.relationship_id,
        image_id=relationship.image_id,
        subject=relationship.subject,
        relation=relationship.relation,
        object=relationship.object,
        subject_id=relationship.subject_id,
        object_id=relationship.object_id,
        subject_box=subject_box,
        object_box=object_box,
        crop=union(subject_box, object_box),
        subject_attributes=attributes.get(relationship.subject_id, ()),
        object_attributes=attributes.get(relationship.object_id, ()),
    )


def _has_good_shape(crop: Box, min_area: int, report: ReadingReport) -> bool:
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    if width * height <= min_area:
        report.skipped[SMALL_CROP] += 1
        return False
    if max(width, height) > MAX_ASPECT * min(width, height):
        report.skipped[LONG_CROP] += 1
        return False
    return True


@contextmanager
def _stage(progress: Progress, path: Path) -> Iterator[Listener]:
    """A stage that reads one file, in MiB."""
    progress.start(path.stem.replace("_", " "), path.stat().st_size >> 20 if path.exists() else None, "MiB")
    read = 0

    def listen(count: int) -> None:
        nonlocal read
        before, read = read, read + count
        progress.advance((read >> 20) - (before >> 20))

    yield listen
