"""The command line: one module per command, each an entry point of the group ``simat.commands``."""
