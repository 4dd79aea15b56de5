"""Masks against references: scores, comparisons, reports."""
