"""Whether the disk has room for what is about to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from simat.errors import BuildError
from simat.files import human

ROW_BYTES, PART_BYTES, SHARD_BYTES = 200, 2, 4  # metadata per image; a number in a part, and at most in a shard


def require_room(folder: Path, rows: int, dim: int) -> tuple[str, str]:
    """Refuse what the disk cannot hold before any work is done.

    Args:
        folder: where it will be written.
        rows: how many images.
        dim: of their vectors.

    Returns:
        How much they take and how much is free, for people.

    Raises:
        BuildError: there is less room than that.
    """
    size, free = rows * (ROW_BYTES + dim * (PART_BYTES + SHARD_BYTES)), shutil.disk_usage(folder).free
    if size > free:
        raise BuildError(
            "the disk is too full for this index", got=f"{human(free)} free, {human(size)} needed", remedy="free some"
        )
    return human(size), human(free)
