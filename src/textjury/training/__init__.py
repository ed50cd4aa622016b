"""The recipe of the embedded models: rows in, adapter out. ``python -m textjury.training --help``."""
