"""What pytest gets from kvsender-spec in every project: a marker, and a line that says which version judges."""

from __future__ import annotations

from importlib.metadata import version

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that ``--strict-markers`` accepts it."""
    config.addinivalue_line("markers", "kvsender_clause(id): the clause of the sender contract that this test judges")


def pytest_report_header() -> str:
    """Name the version, because a verdict is worth nothing without it."""
    return f"kvsender-spec: {version('kvsender-spec')}"
