"""Evaluation of backends that make pictures: cases, settings, resumable runs, measures, tables and figures."""
