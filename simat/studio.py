"""Answers queries with generators where no index is open."""
