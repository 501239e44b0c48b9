"""Adapter heads at a chosen temperature. Imports ``simat`` and no other stage; meets the others in files."""
