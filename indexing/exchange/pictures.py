"""The pictures that imported vectors are of: what is read of them lets their files be shown and sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simat.embeddings import join_path
from simat.errors import ImageError
from simat.images import decode_sized, read_bytes

if TYPE_CHECKING:
    import pyarrow as pa

SMALLEST = 1  # draft edge: only the size of the picture is wanted


class Pictures:
    """Reads every picture once that no SHA-256 is known of.

    Args:
        root: folder that the paths are relative to.

    Attributes:
        missing: how many are not there, or are no pictures.
    """

    def __init__(self, root: Path) -> None:
        self._root, self.missing = root, 0

    def vouched(self, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The columns of a part with the SHA-256 and the size of every file that is there."""
        import pyarrow as pa

        names = ("path", "path_bytes", "sha256", "width", "height")
        rows = zip(*(columns[name].to_pylist() for name in names), strict=True)
        known = [self._known(join_path(path, raw), sha256, size) for path, raw, sha256, *size in rows]
        kinds = {"sha256": pa.string(), "width": pa.int32(), "height": pa.int32()}
        read = {name: pa.array([row[place] for row in known], kind) for place, (name, kind) in enumerate(kinds.items())}
        return {**columns, **read}

    def _known(self, path: str, sha256: str, size: list[int]) -> tuple[str, int, int]:
        if sha256:
            return sha256, size[0], size[1]
        try:
            data = read_bytes(self._root / path)
            _, (width, height) = decode_sized(data, SMALLEST)
        except ImageError:
            self.missing += 1
            return "", size[0], size[1]
        return hashlib.sha256(data).hexdigest(), width, height
