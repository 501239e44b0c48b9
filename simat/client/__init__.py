"""Ask a server as one asks an open index: ``simat.connect("http://localhost:8000").edit("dog.jpg", "dog -> cat")``."""

from simat.client.client import Client, connect

__all__ = ["Client", "connect"]
