"""Errors that say what went wrong, what was got, and what to do about it."""

from __future__ import annotations


class SimatError(Exception):
    """Base of every error that a user can mend.

    The command line prints ``str(error)`` on one line and exits with code 2.

    Args:
        what: what is wrong, in one clause.
        got: the value that was met, where it helps.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, got: object = None, remedy: str | None = None) -> None:
        self.what, self.got, self.remedy = what, got, remedy
        super().__init__(what, got, remedy)

    def __str__(self) -> str:
        parts = [self.what]
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.remedy is not None:
            parts.append(self.remedy)
        # Control characters in a path or a query must not break the one line.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in "; ".join(parts))


class QueryError(SimatError):
    """A query that cannot be answered: unparsable edits, k out of range, a field too many or too few."""


class ImageError(SimatError):
    """A file or array that is no image we read."""


class EncoderError(SimatError):
    """An encoder that is unknown, not installed, or whose weights cannot be read."""


class SpaceMismatchError(SimatError):
    """Vectors of two different embedding spaces were about to meet in a dot product."""


class StorageError(SimatError):
    """An index or embedding set that is missing, half built, altered, or of a newer format."""


class BuildError(SimatError):
    """An index build that cannot start or go on."""


class ModelError(SimatError):
    """A generative model that is unknown, incomplete, or not installed."""


class Cancelled(SimatError):
    """Work that was asked to stop, and did: nothing is half written, nothing is left changed."""


class NotFound(SimatError):
    """Something asked for by its name or number that is not there: a job, an image, a page."""


class Denied(SimatError):
    """Not allowed: no token or a wrong one, a foreign origin, an address that may not be bound or fetched."""


class TooLarge(SimatError):
    """A request, an upload or a download over its limit."""


class FetchError(SimatError):
    """An allowed address that did not answer with what it should."""


class Busy(SimatError):
    """More work than there is room for.

    Args:
        retry_after: seconds from now when there may be room.
    """

    def __init__(self, what: str, *, got: object = None, remedy: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(what, got=got, remedy=remedy)
        self.retry_after = retry_after
