"""Simulated scenes with truth."""
