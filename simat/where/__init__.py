"""Filters over the metadata: one boolean SQL expression, checked before anything is made of it.

``Filter.parse("width >= 640 and caption like '%beach%'")`` reads a text with DuckDB's own parser and keeps only what a
list allows: a small tree of columns, literals, operators and functions. What is run is written anew from that tree,
in a DuckDB that may open no file and no network.
"""

from simat.where.filters import Filter, Filters
from simat.where.tree import Call, Cast, Column, Literal, Node

__all__ = ["Call", "Cast", "Column", "Filter", "Filters", "Literal", "Node"]
