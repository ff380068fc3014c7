"""What the findings of one or more histories come to, clause by clause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from kvsender_spec.clauses import Clause, claimed
from kvsender_spec.contract import Role
from kvsender_spec.history.events import History
from kvsender_spec.history.header import Ability, Header
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import excused
from kvsender_spec.observe.verdict import Evidence, Findings, Outcome, Reason, Verdict, Violation

_NEEDS: Final[dict[str, tuple[Ability, str]]] = {
    "KS-2.8": (Ability.ATTRIBUTION, "the system has no attribution()"),
    "KS-4.4": (Ability.QUARANTINE, "the system has no quarantined_pages()"),
    "KS-5.1": (Ability.ABORT, "the sender has no abort()"),
    "KS-5.2": (Ability.CLEAR, "the sender has no clear()"),
    "KS-5.3": (Ability.CLEAR, "the sender has no clear()"),
    "KS-6.1": (Ability.NOTIFY, "the system has no read_notification()"),
    "KS-6.3": (Ability.RECONNECT, "the system has no reconnect()"),
    "KS-6.4": (Ability.TARGET_ABORTS, "the system has no target_aborts()"),
    "KS-7.1": (Ability.WORKERS, "the system has no workers()"),
    "KS-9.3": (Ability.HOLDS, "it is no holder"),
    "KS-9.4": (Ability.REFILLS, "the system has no refill()"),
    "KS-9.9": (Ability.TELLS, "the system has no read_message()"),
    "KS-9.10": (Ability.ANNOUNCES, "nothing that it announces can be read"),
    "KS-9.12": (Ability.FENCES, "the system has no fence()"),
    "KS-9.13": (Ability.PUBLISHES, "the system has no published_pages()"),
    "KS-9.16": (Ability.ASKS, "the system has no asks_again"),
}
"""What a subject must be able to do for a clause to be about it. The others are about every sender."""
_WANTS: Final[dict[str, tuple[str, ...]]] = {
    "KS-1.5": ("import.probed",),
    "KS-3.1": ("bytes.compared",),
    "KS-3.2": ("bytes.compared",),
    "KS-3.4": ("faults.over",),
    "KS-3.5": ("bytes.landed",),
    "KS-3.6": ("bytes.compared",),
    "KS-4.1": ("pages.held",),
    "KS-4.3": ("kept.counted",),
    "KS-4.4": ("pages.held",),
    "KS-6.1": ("notification.heard", "faults.over"),
    "KS-6.2": ("peer.lost",),
    "KS-6.3": ("peer.returned",),
    "KS-6.4": ("notification.heard", "faults.over"),
    "KS-7.1": ("worker.ended",),
    "KS-9.1": ("pages.held",),
    "KS-9.2": ("pages.held",),
    "KS-9.4": ("pages.reused",),
    "KS-9.12": ("pages.held", "fence.told"),
    "KS-9.15": ("kept.counted",),
}
"""The kinds, beside calls and transfers, without which a clause that was not observed cannot be."""
_ONLY_WORKERS: Final = "KS-1.4"
_EXCEPTIONS: Final = "KS-1.3"
_CALLERS: Final = frozenset({"KS-1.3", "KS-1.4", "KS-7.2"})
"""They are about what happens in a call of the caller that asks the transport."""


def lacking(clause: Clause, can: frozenset[Ability]) -> str:
    """What the subject lacks for a clause; empty if nothing."""
    ability, words = _NEEDS.get(clause.id, (None, ""))
    return words if ability is not None and ability not in can else ""


def verdict_of(
    clause: Clause,
    profile: Profile,
    headers: Sequence[Header],
    findings: Findings,
    *,
    complete: bool = True,
    history: History | None = None,
) -> Verdict:
    """One clause, from what was seen in one history or in several with like headers."""
    can = frozenset[Ability]().union(*(header.can for header in headers))
    broken = [violation for violation in findings.violations if violation.clause == clause.id]
    seen = findings.held[clause.id] + len(broken)
    evidence = Evidence(_first(broken), history=history) if broken else None
    lack = lacking(clause, can)
    if lack:
        return Verdict(clause, Outcome.NOT_APPLICABLE, seen, note=lack)
    if clause not in claimed(profile, clause.role):
        note = f"not claimed by profile {profile.value}"
        return Verdict(clause, Outcome.NOT_CLAIMED, seen, len(broken), note=note, evidence=evidence)
    if evidence is not None:
        after = evidence.violation.after
        outcome = Outcome.FAIL_AFTER if after and after != clause.id else Outcome.FAIL
        return Verdict(clause, outcome, seen, len(broken), after if outcome is Outcome.FAIL_AFTER else "", "", evidence)
    if seen:
        return Verdict(clause, Outcome.PASS, seen)
    return Verdict(clause, *_unobserved(clause, headers, can, findings, complete=complete))


def _first(broken: Sequence[Violation]) -> Violation:
    """One that came before anything else in its room, if there is one."""
    return next((violation for violation in broken if violation.after in ("", violation.clause)), broken[0])


def _unobserved(
    clause: Clause, headers: Sequence[Header], can: frozenset[Ability], findings: Findings, *, complete: bool
) -> tuple[Outcome, int, int, str, str]:
    if clause.id == _ONLY_WORKERS and Ability.WORKERS in can:
        return Outcome.NOT_APPLICABLE, 0, 0, "", "only workers ask the transport"
    if clause.id in _CALLERS and Ability.BACKGROUND in can:
        return Outcome.NOT_APPLICABLE, 0, 0, "", "only background work asks the transport"
    if clause.id == _EXCEPTIONS and Ability.HIDES_ERRORS in can:
        return Outcome.NOT_APPLICABLE, 0, 0, "", "its transport raises no exceptions"
    missing = [kind for kind in _WANTS.get(clause.id, ()) if any(kind not in header.vantage for header in headers)]
    reason, what = findings.reasons.get(clause.id, (Reason.NEVER_OBSERVED, ""))
    if missing:
        reason, what = Reason.NOT_RECORDED, ", ".join(missing)
    elif reason is Reason.NEVER_OBSERVED and not complete:
        reason = Reason.CUT_OFF
    note = f"{reason.value}: {what}" if what else reason.value
    return Outcome.INCONCLUSIVE, 0, 0, "", note


def named(findings: Findings, names: Mapping[str, str], profile: Profile, role: Role = "initiator") -> Findings:
    """With the clauses about circumstances that explain a rule, wherever the circumstance is there; and without what
    the profile does not specify."""
    ids = frozenset(clause.id for clause in claimed(profile, role))
    violations: list[Violation] = []
    for violation in findings.violations:
        if excused(violation, ids):
            continue
        clause = names.get(violation.clause, "")
        # What several other rooms have kept (KS-4.3) is a circumstance of theirs.
        if ("KS-5.4" if clause == "KS-4.3" else clause) in violation.contexts:
            violations.append(replace(violation, clause=clause))
            violation = replace(violation, after=violation.after or clause)
        violations.append(violation)
    return Findings(findings.held, violations, reasons=findings.reasons)
