"""What the tests of the recipe share."""

from textjury.training import onepass

# What was written and labelled for the project would drown the rows that the tests make.
MADE_HERE = onepass.Mixture(topics=0, written=0, written_pairs=0, written_hypotheses=0, annotated=0)
