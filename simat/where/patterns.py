"""How much work a pattern makes: its length, and that of a regular expression whose counts are written out.

Expressions are matched in time linear in the text, but for every character in time linear in the expression, and no
one stops DuckDB within the rows that it looks at together.
"""

from __future__ import annotations

import re

from simat.errors import QueryError
from simat.where.allowed import CLASS_SIZE, MOST_PATTERN, MOST_SIZE

_COUNT = r"\{(\d+)?(?:,(\d+)?)?\}"
_CLASS = r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]"
_UNICODE = r"\\[pP](?:\{\^?\w+\}|\^?.)"
_PART = re.compile(rf"{_UNICODE}|\\.|{_CLASS}|{_COUNT}|.", re.DOTALL)


def check_length(name: str, pattern: str) -> None:
    """Refuse a pattern of ``LIKE`` or an expression that is too long.

    Raises:
        QueryError: it is.
    """
    if len(pattern) > MOST_PATTERN:
        raise QueryError(f"the pattern of {name} is longer than {MOST_PATTERN} characters", got=len(pattern))


def check_expression(name: str, pattern: str) -> None:
    """Refuse a regular expression that makes too much work.

    Raises:
        QueryError: it is too long, or repeats too much, or quotes with ``\\Q``.
    """
    check_length(name, pattern)
    size = expression_size(pattern)
    if size > MOST_SIZE:
        raise QueryError(f"the pattern of {name} repeats too much", got=f"{size} parts", remedy="count less")


def expression_size(pattern: str) -> int:
    r"""The parts of an expression whose counts such as ``{20}`` are written out; a class such as ``\pL`` is many.

    Raises:
        QueryError: ``\Q`` changes what the rest means.
    """
    sizes, last = [0], 0  # of every group that is open, and of the part that a count would repeat
    for found in _PART.finditer(pattern):
        part = found[0]
        if part == r"\Q":
            raise QueryError(r"a pattern may not quote with \Q", got=repr(pattern), remedy="write backslashes instead")
        if part == "(":
            sizes.append(0)
        elif part == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif part[0] == "{" and len(part) > 1:
            copies = max(int(found[1] or 1), int(found[2] or 1))
            sizes[-1] += last * (copies - 1)
            last *= copies
        elif part not in "*+?|":
            last = CLASS_SIZE if part[:2] in {r"\p", r"\P"} else 1
            sizes[-1] += last
    return sum(sizes)
