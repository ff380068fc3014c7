"""A badge for a README: what shields.io reads from an address (its "endpoint" schema)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvsender_spec.observe.verdict import Outcome, Report, worst_exit_code


class Badge(msgspec.Struct, frozen=True, rename="camel"):
    """Label, message and colour."""

    label: str
    message: str
    color: str
    schema_version: int = 1


def to_badge(reports: Sequence[Report]) -> str:
    """One badge for all reports: how many clauses pass of those that apply, and the colour of the exit code."""
    judged = [v for report in reports for v in report.verdicts]
    apply = [v for v in judged if v.outcome not in (Outcome.NOT_APPLICABLE, Outcome.NOT_CLAIMED)]
    passed = sum(verdict.outcome is Outcome.PASS for verdict in apply)
    code = worst_exit_code(reports)
    color = {0: "brightgreen", 1: "red"}.get(code, "lightgrey")
    known = sum(verdict.known != "" for verdict in apply)
    if known and not code:
        color = "yellow"
    message = f"{passed} of {len(apply)} clauses pass" + (f", {known} known" if known else "")
    return msgspec.json.encode(Badge("kv sender contract", message, color)).decode() + "\n"
