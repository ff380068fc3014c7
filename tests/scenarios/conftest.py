"""The option that rewrites transcripts. Nothing else does."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios", action="store_true", help="write what the reference sender does into tests/scenarios"
    )
