"""Offline index building: scan, decode, embed, shard, measure. Imports ``simat`` and no other stage."""
