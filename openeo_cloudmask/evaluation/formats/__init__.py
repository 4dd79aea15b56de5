"""References of others, each in its own layout: a file per format, found by itself."""
