"""The recipes of adapters, those of the package among them: rows in, adapter out. ``python -m textjury.training --help``."""
