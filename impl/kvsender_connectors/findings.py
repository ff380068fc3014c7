"""The result of one connector's check, as it travels from its process to the one that prints."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    observed: str
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
    """The result of a witness's replay. What only the end of the run breaks is not the witness's."""
    witness = WITNESSES[number]
    seen = [violation for moment in done.moments if not moment.ending for violation in moment.violations]
    for violation in seen:
        if violation.clause in witness.clauses:
            return Shown(witness.what, True, violation.observed)
    instead = "; ".join(f"{violation.clause}: {violation.observed}" for violation in seen)
    return Shown(witness.what, False, str(done.error) if done.error is not None else instead)


def dump(reports: list[Report], witnesses: list[Shown]) -> str:
    """As JSON. Of two reports the later one has the last word on the clauses that it judges."""
    document: dict[str, object] = {
        "schema": SCHEMA,
        "reports": [json.loads(to_json(report)) for report in reports],
        "witnesses": [{"what": w.what, "shown": w.shown, "observed": w.observed} for w in witnesses],
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
    verdicts: dict[str, Verdict] = {}
    runs = steps = 0
    for report in _rows(document, "reports"):
        runs, steps = runs + _number(report, "runs"), steps + _number(report, "steps")
        for row in _rows(report, "clauses"):
            verdicts[_text(row, "id")] = _verdict(row)
    witnesses = tuple(
        Shown(_text(row, "what"), row.get("shown") is True, _text(row, "observed"))
        for row in _rows(document, "witnesses")
    )
    return Findings(dict(sorted(verdicts.items())), witnesses, runs, steps)


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
