"""The service: open indices and generators behind HTTP, for other programs and for a browser."""
