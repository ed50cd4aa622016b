"""``python -m textjury``."""

from textjury.cli import main

main()
