"""Measurements of the engine: one script per figure of the README, each run as ``python -m benchmarks.NAME``."""
