"""Visual Genome's own files, streamed, to regions."""
