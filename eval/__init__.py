"""Measurements of retrieval, editing and geometry. Imports ``simat`` and ``data``; meets the others in files."""
