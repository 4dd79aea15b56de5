"""Where reference masks come from: each format is a file in this folder, found by itself."""
