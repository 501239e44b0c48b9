"""Images and what is said of them, whatever kind of corpus they stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.coco_corpus import captions_by_image
from data.corpus import Corpus, CorpusError

ALL = "all"  # the split of a corpus that has none


@dataclass(frozen=True)
class CaptionedImage:
    """A row of a corpus's table of images.

    Attributes:
        file: relative to the folder of images; None for a region without a crop.
        split: of the corpus; ``all`` where it has none.
        captions: may be none.
    """

    file: str | None
    split: str
    captions: tuple[str, ...]


def captioned_images(corpus: Corpus) -> list[CaptionedImage]:
    """Every image of a corpus of captions or scenes, every region of a SIMAT corpus, in the order of its table.

    Raises:
        CorpusError: a corpus of another kind.
    """
    if corpus.manifest.kind not in READERS:
        remedy = f"give a corpus of {', '.join(READERS)}"
        raise CorpusError(
            f"a corpus of kind {corpus.manifest.kind!r} has no captions", got=str(corpus.folder), remedy=remedy
        )
    return [*READERS[corpus.manifest.kind](corpus)]


def _of_captions(corpus: Corpus) -> Iterator[CaptionedImage]:
    captions = captions_by_image(corpus)
    for row in corpus.table("images").select(["image_id", "file", "split"]).to_pylist():
        yield CaptionedImage(row["file"], row["split"], captions.get(row["image_id"], ()))


def _of_scenes(corpus: Corpus) -> Iterator[CaptionedImage]:
    for row in corpus.table("scenes").select(["image", "captions"]).to_pylist():
        yield CaptionedImage(row["image"], ALL, tuple(row["captions"]))


def _of_simat(corpus: Corpus) -> Iterator[CaptionedImage]:
    captions = corpus.table("triplets")["caption"].to_pylist()
    for row in corpus.table("regions").select(["image", "caption_id", "is_test"]).to_pylist():
        yield CaptionedImage(row["image"], "test" if row["is_test"] else "dev", (captions[row["caption_id"]],))


READERS: dict[str, Callable[[Corpus], Iterator[CaptionedImage]]] = {
    "captions": _of_captions,
    "scenes": _of_scenes,
    "simat": _of_simat,
}
