"""Whether an encoder makes the vectors that are imported in its name: some pictures are encoded again."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image

from simat.embeddings import join_path
from simat.errors import ImageError, SpaceMismatchError
from simat.images import load_image
from simat.types import ImageEncoder

if TYPE_CHECKING:
    import pyarrow as pa

PICTURES = 4
ALIKE = 0.9  # cosine: another decoder, another resize and half precision stay far above it, other weights far below


def require_likeness(
    columns: dict[str, pa.Array], vectors: Float[np.ndarray, "n d"], root: Path, encoder: ImageEncoder
) -> int:
    """Encode the first pictures that are there and compare.

    Args:
        columns: of a part, with ``path`` and ``path_bytes``.
        vectors: what they are said to be.
        root: folder of the pictures.
        encoder: said to have made them.

    Returns:
        How many pictures were compared.

    Raises:
        SpaceMismatchError: one of them has another vector.
    """
    names = [join_path(*pair) for pair in zip(*(columns[n].to_pylist() for n in ("path", "path_bytes")), strict=True)]
    found = [*islice(((row, image) for row, name in enumerate(names) if (image := _picture(root / name))), PICTURES)]
    if not found:
        return 0
    made = encoder.encode_images([image for _, image in found]).astype(np.float64)
    given = vectors[[row for row, _ in found]].astype(np.float64)
    with np.errstate(all="ignore"):  # a row without a direction is nobody's, and is left out later
        cosines = (made * given).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(given, axis=1)
    other = np.flatnonzero(cosines < ALIKE)
    if len(other):
        raise SpaceMismatchError(
            f"the vector of {names[found[other[0]][0]]} was not made by {encoder.space}",
            got=f"cosine {cosines[other[0]]:.3f}",
            remedy="name the encoder that made the vectors with --encoder, the folder of their pictures with --root",
        )
    return len(found)


def _picture(path: Path) -> Image.Image | None:
    try:
        return load_image(path)
    except ImageError:
        return None
