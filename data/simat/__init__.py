"""The SIMAT corpus (thesis 3.2): triplets, transformation queries, captions, weights, splits."""
