"""Detectors of other packages, behind optional extras."""
