"""Everything that a filter may be made of. What is not here is refused."""

from __future__ import annotations

from collections.abc import Mapping

MOST_TEXT = 20_000  # characters of a filter
MOST_NESTING = 64  # one inside another
MOST_PATTERN = 500  # characters of a pattern
MOST_JOINED = 8  # ||, of which every one makes a longer text for every row
LARGEST_EXPONENT = 308  # of a number: beyond, DuckDB has infinity
MOST_SIZE = 300  # parts of a regular expression, with its counts such as {20} written out
CLASS_SIZE = 25  # parts that a class of Unicode counts for

COMPARISONS: Mapping[str, str] = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "is distinct from",
    "COMPARE_NOT_DISTINCT_FROM": "is not distinct from",
}
CONJUNCTIONS: Mapping[str, str] = {"CONJUNCTION_AND": "and", "CONJUNCTION_OR": "or"}
OPERATORS: Mapping[str, str] = {
    "OPERATOR_NOT": "not",
    "OPERATOR_IS_NULL": "is null",
    "OPERATOR_IS_NOT_NULL": "is not null",
    "OPERATOR_COALESCE": "coalesce",
    "COMPARE_IN": "in",
}
LIKES: Mapping[str, tuple[str, bool]] = {  # DuckDB's name: ours, and whether it is negated
    "~~": ("like", False),
    "!~~": ("like", True),
    "~~*": ("ilike", False),
    "!~~*": ("ilike", True),
    "like_escape": ("like", False),
    "not_like_escape": ("like", True),
    "ilike_escape": ("ilike", False),
    "not_ilike_escape": ("ilike", True),
}
SYMBOLS: Mapping[str, tuple[int, int]] = {  # and how many operands they take
    "+": (1, 2),
    "-": (1, 2),
    "*": (2, 2),
    "/": (2, 2),
    "//": (2, 2),
    "%": (2, 2),
    "||": (2, 2),
}
MANY = 1000
# Each answers the same whenever it is asked, and its result is no longer than its operands together.
FUNCTIONS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("lower", "upper", "length", "strlen", "isnan", "isinf", "isfinite", "year", "month", "day"), (1, 1)
    ),
    **dict.fromkeys(("abs", "sign", "floor", "ceil", "ceiling", "sqrt", "ln", "log2", "log10", "len"), (1, 1)),
    **dict.fromkeys(("hour", "minute", "second", "dayofweek", "dayofyear", "week", "quarter"), (1, 1)),
    **dict.fromkeys(("trim", "ltrim", "rtrim", "round"), (1, 2)),
    **dict.fromkeys(("contains", "starts_with", "ends_with", "prefix", "suffix", "strpos", "instr"), (2, 2)),
    **dict.fromkeys(("left", "right", "nullif", "date_part", "list_contains", "array_contains", "list_has"), (2, 2)),
    **dict.fromkeys(("substring", "substr", "regexp_matches", "regexp_full_match"), (2, 3)),
    **dict.fromkeys(("greatest", "least"), (1, MANY)),
}
PATTERNS = frozenset({"regexp_matches", "regexp_full_match"})
PATTERN_OPTIONS = frozenset("cilmnps")
TYPES = frozenset(
    {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "VARCHAR", "DATE", "TIME"}
    | {"TIMESTAMP"}
)
ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("BOOL", "LOGICAL"), "BOOLEAN"),
    **dict.fromkeys(("INT", "INT4", "SIGNED"), "INTEGER"),
    **dict.fromkeys(("INT8", "LONG"), "BIGINT"),
    **dict.fromkeys(("REAL", "FLOAT4"), "FLOAT"),
    **dict.fromkeys(("FLOAT8",), "DOUBLE"),
    **dict.fromkeys(("TEXT", "STRING", "CHAR", "BPCHAR"), "VARCHAR"),
    **dict.fromkeys(("DATETIME",), "TIMESTAMP"),
}
REFUSED: Mapping[str, str] = {  # classes of DuckDB's nodes, for people
    "SUBQUERY": "a sub-query",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a column by its number",
    "LAMBDA": "a lambda",
    "COLLATE": "a collation",
}
