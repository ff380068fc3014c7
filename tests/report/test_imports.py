"""The reports are made from verdicts and histories: nothing that runs a sender is loaded for them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from kvsender_spec.report import html, json, junit, sequence, svg, text
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("kvsender_spec.")}))
"""
ALLOWED = {
    "clause",
    "clauses",
    "contract",
    "faults",
    "history",
    "lines",
    "machine",
    "observe",
    "report",
    "target_clauses",
    "target_machine",
    "trace",
}


def test_nothing_but_what_a_report_is_about_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.strip(" '[]\n") for name in done.stdout.split(",")}
    assert "report" in loaded
    assert loaded <= ALLOWED
