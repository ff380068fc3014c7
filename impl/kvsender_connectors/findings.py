"""The result of one connector's check, as it travels from its process to the one that prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from kvsender_connectors.witnesses import WITNESSES
from kvsender_spec.kit.check import Outcome, Report
from kvsender_spec.kit.replay import Replay
from kvsender_spec.kit.report import to_json
from kvsender_spec.trace import Trace, load

SCHEMA: Final = "kvsender-connector/1"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause's, as the kit's report has it."""

    outcome: Outcome
    observations: int
    note: str = ""
    expected: str = ""
    observed: str = ""
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one witness."""

    what: str
    shown: bool
    clause: str = ""
    """The clause that broke."""
    expected: str = ""
    observed: str = ""
    """What was seen where it was shown; otherwise what broke instead, or nothing."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything about one connector."""

    verdicts: dict[str, Verdict]
    witnesses: tuple[Shown, ...]
    runs: int
    steps: int


class FindingsError(ValueError):
    """A file that is not what ``dump`` writes; the message says what is missing."""


def shown(number: int, done: Replay) -> Shown:
    """The result of a witness's replay. What only the end of the run breaks is not the witness's, unless it says so."""
    witness = WITNESSES[number]
    moments = [moment for moment in done.moments if witness.at_end or not moment.ending]
    seen = [violation for moment in moments for violation in moment.violations]
    for violation in seen:
        if violation.clause in witness.clauses:
            return Shown(witness.what, True, violation.clause, violation.expected, violation.observed)
    instead = "; ".join(f"{violation.clause}: {violation.observed}" for violation in seen)
    return Shown(witness.what, False, observed=str(done.error) if done.error is not None else instead)


def dump(report: Report, witnesses: list[Shown]) -> str:
    """As JSON, with the kit's own report inside."""
    document: dict[str, object] = {
        "schema": SCHEMA,
        "report": json.loads(to_json([report])),
        "witnesses": [asdict(witness) for witness in witnesses],
    }
    return json.dumps(document, indent=1) + "\n"


def load_findings(text: str) -> Findings:
    """Read what ``dump`` wrote. Raises FindingsError."""
    try:
        document: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise FindingsError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise FindingsError(f"not a document of {SCHEMA}")
    report = document.get("report")
    if not isinstance(report, dict):
        raise FindingsError("it holds no report")
    verdicts = {_text(row, "id"): _verdict(row) for row in _rows(report, "clauses")}
    witnesses = tuple(
        Shown(
            _text(row, "what"),
            row.get("shown") is True,
            _text(row, "clause"),
            _text(row, "expected"),
            _text(row, "observed"),
        )
        for row in _rows(document, "witnesses")
    )
    for number, witness in enumerate(witnesses):
        # A history that breaks a clause is as good a trace as one that the exploration finds.
        if witness.shown and verdicts[witness.clause].outcome is not Outcome.FAIL:
            seen = verdicts[witness.clause].observations + 1
            trace = WITNESSES[number].trace
            verdicts[witness.clause] = Verdict(Outcome.FAIL, seen, "", witness.expected, witness.observed, trace)
    return Findings(verdicts, witnesses, _number(report, "runs"), _number(report, "steps"))


def _verdict(row: dict[str, object]) -> Verdict:
    lines = row.get("trace")
    trace = load([str(line) for line in lines]) if isinstance(lines, list) else None
    return Verdict(
        Outcome(_text(row, "verdict")),
        _number(row, "observations"),
        _text(row, "note"),
        str(row.get("expected", "")),
        str(row.get("observed", "")),
        trace,
    )


def _rows(fields: dict[str, object], key: str) -> list[dict[str, object]]:
    value = fields.get(key)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise FindingsError(f"{key!r} is no list of objects")
    return value


def _text(fields: dict[str, object], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise FindingsError(f"{key!r} is no text")
    return value


def _number(fields: dict[str, object], key: str) -> int:
    value = fields.get(key)
    if not isinstance(value, int):
        raise FindingsError(f"{key!r} is no number")
    return value
