"""The COCO protocols: edits by BISON's captions (thesis 5.4.5, A.3), layouts by COCO-Stuff (thesis 6.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast, get_args

import numpy as np

from data.bison import editing_queries, filtered_queries, read_bison
from data.coco_corpus import captions_by_image, files_by_image
from data.coco_stuff import Protocol, Segment, layout_of, map_path, prompt_of, read_label_names, read_map, segments_of
from data.corpus import Corpus, CorpusError
from eval.editing.cases import EditCase, LayoutCase
from simat.errors import QueryError

CAPTIONS = "captions"


def bison_edits(corpus: Corpus, annotations: Path, number: int | None = None, filtered: bool = False) -> list[EditCase]:
    """BISON's captions as queries on the images that they contradict.

    Args:
        corpus: of kind ``captions``.
        annotations: BISON's file.
        number: how many; None for all.
        filtered: only queries whose word edits are at most a quarter of the reference's words (thesis A.3).

    Raises:
        CorpusError: damaged annotations, or no query on the corpus's images.
    """
    queries = editing_queries(read_bison(annotations)[0], captions_by_image(corpus)).queries
    chosen = filtered_queries(queries) if filtered else list(queries)
    if not chosen:
        raise CorpusError("no annotation gives a query on these images", got=str(annotations))
    files = files_by_image(corpus)
    kind = "bison-filtered" if filtered else "bison"
    return [
        EditCase(f"{query.bison_id:08}", kind, files[query.image_id], query.query, query.reference)
        for query in chosen[:number]
    ]


def stuff_layouts(
    corpus: Corpus, maps: Path, protocol: str, number: int | None = None, seed: int = 0, labels: Path | None = None
) -> list[LayoutCase]:
    """Layouts of COCO-Stuff with one of the captions of their image; the prompt lists the classes after it.

    Args:
        corpus: of kind ``captions``.
        maps: folder of the segmentation maps, such as ``val2017``.
        protocol: ``all``, ``filtered`` or ``few``.
        number: how many; None for all.
        seed: of the captions and of the segments of ``few``, image by image.
        labels: names of the labels, by default COCO-Stuff's own.

    Raises:
        QueryError: no such protocol.
        CorpusError: damaged maps, or none of the corpus's images.
    """
    if protocol not in get_args(Protocol):
        raise QueryError("no such protocol", got=repr(protocol), remedy=f"there are: {', '.join(get_args(Protocol))}")
    found = list(islice(_layouts(corpus, maps, cast(Protocol, protocol), seed, labels), number))
    if not found:
        raise CorpusError("no image of the corpus has a map with segments", got=str(maps))
    return found


def _layouts(corpus: Corpus, maps: Path, protocol: Protocol, seed: int, labels: Path | None) -> Iterator[LayoutCase]:
    names = None if labels is None else read_label_names(labels)
    captions, files = captions_by_image(corpus), files_by_image(corpus)
    for image_id in sorted(captions):
        path = map_path(maps, image_id)
        if not path.is_file():
            continue
        generator = np.random.default_rng([seed, image_id])
        caption = captions[image_id][int(generator.integers(len(captions[image_id])))]
        segments = layout_of(segments_of(read_map(path), names), protocol, generator)
        if segments:
            yield _case(f"{image_id:012}", protocol, caption, segments, files[image_id])


def _case(key: str, protocol: str, caption: str, segments: tuple[Segment, ...], file: Path) -> LayoutCase:
    masks = {segment.name: np.asarray(segment.mask) for segment in segments}
    return LayoutCase(key, protocol, prompt_of(caption, segments).text, masks, {}, file)
