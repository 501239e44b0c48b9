"""A procedural picture-book world in which everything has ground truth."""
