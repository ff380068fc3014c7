"""Judges the histories of targets (KS-9)."""
