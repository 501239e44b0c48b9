"""Pieces of the methods that make pictures; imported only with torch, models load when they are first used."""
