"""The edit language: ``"dog -> cat"``, ``"+ snow"``, ``"- person"``, several separated by commas."""

from __future__ import annotations

from dataclasses import dataclass

from simat.errors import QueryError

ARROWS = ("->", "→", "=>")
MINUS_SIGNS = ("-", "−")  # the hyphen of a keyboard, the minus sign of a text editor
HELP = 'write "dog -> cat", "+ snow" or "- person", several separated by commas'


@dataclass(frozen=True)
class Edit:
    """Words to leave and words to move to; one of them may be missing.

    Attributes:
        source: words that the image shows now (None: pure addition).
        target: words that the answer shall show (None: pure removal).
    """

    source: str | None
    target: str | None

    def __post_init__(self) -> None:
        if not self.source and not self.target:
            raise QueryError("an edit needs a source or a target", remedy=HELP)

    def __str__(self) -> str:
        if self.source is None:
            return f"+ {self.target}"
        if self.target is None:
            return f"- {self.source}"
        return f"{self.source} -> {self.target}"


def parse_edits(text: str) -> tuple[Edit, ...]:
    """Read a comma-separated list of edits.

    Args:
        text: for example ``"dog -> cat, + snow"``.

    Returns:
        One :class:`Edit` per item, in the order written.

    Raises:
        QueryError: an item is empty, has two arrows, or is no edit at all.
    """
    return tuple(_parse_one(item) for item in text.split(","))


def _parse_one(item: str) -> Edit:
    for arrow in ARROWS:
        item = item.replace(arrow, ARROWS[0])
    words = [" ".join(side.split()) for side in item.split(ARROWS[0])]
    if len(words) == 2 and all(words):
        return Edit(words[0], words[1])
    if len(words) == 1 and words[0].startswith("+") and words[0][1:].strip():
        return Edit(None, words[0][1:].strip())
    if len(words) == 1 and words[0].startswith(MINUS_SIGNS) and words[0][1:].strip():
        return Edit(words[0][1:].strip(), None)
    raise QueryError("this is no edit", got=repr(item.strip()), remedy=HELP)
