"""Corpora: readers and makers of labelled images. Imports ``simat`` and no other stage."""
