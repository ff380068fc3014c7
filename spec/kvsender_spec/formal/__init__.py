"""Checks of the specification itself: everything here is lowered from the tables of ``kvsender_spec.machine``."""
