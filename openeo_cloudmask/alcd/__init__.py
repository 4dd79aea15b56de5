"""ALCD reference masks: read, written, downloaded."""
