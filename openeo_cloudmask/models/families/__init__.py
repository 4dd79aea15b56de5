"""A file for each family of models; each has a ``FAMILY`` and is found by itself."""
