"""Metrics of made pictures: one module each, on arrays or pictures, and the networks that some of them look through."""
