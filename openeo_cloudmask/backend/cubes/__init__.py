"""Datacubes: collections, ingestion, lazy reading, masking."""
