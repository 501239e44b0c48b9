"""Vectors that others made, and vectors for others: folders of clip-retrieval's layout, of Parquet, of Lance."""
