"""The models that come with the package: one folder each with adapter, manifest, curve and card.

``textjury.training`` makes them again; the base encoder comes from its own package and is pinned by digest.
"""
