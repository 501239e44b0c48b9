"""From an image and words to what to search for; the methods are in :mod:`simat.composers`."""

from __future__ import annotations

from simat.composers import COMPOSERS, Background, Composition, Fusion, Parts, Vector, compose, summary

__all__ = ["COMPOSERS", "Background", "Composition", "Fusion", "Parts", "Vector", "compose", "summary"]
