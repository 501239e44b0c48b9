"""A region: one annotated relationship of an image, and the crop that shows it."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the image; x1 and y1 are outside."""
Triplet = tuple[str, str, str]
"""Subject, relation, object."""


@dataclass(frozen=True)
class Region:
    """A (subject, relation, object) annotation with its boxes, as in the released ``retrieval_db.tsv``.

    Attributes:
        region_id: unique in its corpus.
        image_id: the image of the data set that it lies in.
        subject_id, object_id: ids of the data set's objects.
        crop: contains subject and object.
    """

    region_id: int
    image_id: int
    subject: str
    relation: str
    object: str
    subject_id: int
    object_id: int
    subject_box: Box
    object_box: Box
    crop: Box
    subject_attributes: tuple[str, ...] = ()
    object_attributes: tuple[str, ...] = ()

    @property
    def triplet(self) -> Triplet:
        """Subject, relation, object."""
        return self.subject, self.relation, self.object
