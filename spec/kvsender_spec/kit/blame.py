"""Shortens what broke, names the clause that it is about, and runs every trace again before it is reported."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from kvsender_spec.history.events import History, RoomOpened
from kvsender_spec.history.header import Header
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.consequences import note_consequences
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.shrink import Shown, show, shrink, tries
from kvsender_spec.observe.attribution import OWN_ERROR, SPECIAL_CASES, Example, Tally, contexts_of, excused
from kvsender_spec.observe.verdict import Breakdown, Evidence
from kvsender_spec.trace import Trace


@dataclass(slots=True)
class Blame:
    """What attribution has come to: by clause, its evidence, and after which clause it is broken."""

    evidence: dict[str, Evidence]
    after: dict[str, str]
    errors: list[Breakdown]


def attribute(adapter: Adapter, tally: Tally, wanted: frozenset[str]) -> Blame:
    """Shorten each rule's shortest run, name the clause that it is about, and run every reported trace again."""
    blame = Blame({}, {}, [])
    shown: list[Shown] = []
    for rule, example in sorted(tally.first.items(), key=_by_length):
        if rule == OWN_ERROR or wanted & {rule, *tally.explaining(rule)}:
            _attribute(adapter, tally, example, blame, shown)
    for rule, example in list(tally.later.items()):
        if rule in wanted and rule not in blame.evidence:
            _attribute_later(adapter, tally, example, blame, shown)
    note_consequences(blame.evidence, blame.after, tally.alongside)
    return blame


def _by_length(entry: tuple[str, Example]) -> tuple[int, str]:
    return len(entry[1].trace.steps), entry[0]


def _attribute(adapter: Adapter, tally: Tally, example: Example, blame: Blame, shown: list[Shown]) -> None:
    rule = example.violation.clause
    best = _already(shown, rule, tally) or shrink(adapter, example)
    again = None if best is None else _again(adapter, best, tally)
    if again is not None and again.violation.after:
        _note_later(again, blame)  # with the end of a run behind it, another rule breaks before it
        return
    later = tally.later.get(rule)
    if best is None or again is None:
        if later is not None and tally.first.get(rule) is example:
            tally.forget_first(rule)  # what two threads do may repeat only where another rule has broken before it
            if _attribute_later(adapter, tally, later, blame, shown):
                return
        said = f"not repeatable: {rule} broke once ({example.violation.observed}), and not when the trace was run again"
        blame.errors.append(Breakdown(said, example.trace, example.violation.frames))
        return
    rooms = sum(isinstance(event, RoomOpened) for event in best.history.events)
    named = tally.name(best.violation, rooms)
    # It may break without the circumstance as well, though only after another rule: then that one is the cause.
    elsewhere = named in contexts_of(best.violation) and later is not None and not tally.needs(rule, named)
    if elsewhere and later is not None and _attribute_later(adapter, tally, later, blame, shown):
        return
    shown.append(best)
    # What is left in the shortest trace is what it takes: its circumstances need no further mention.
    plain = replace(best.violation, contexts=frozenset())
    header = best.history.header if named == rule else _naming(best.history.header, rule, named)
    evidence = Evidence(plain, trace=best.trace, history=History(header=header, events=best.history.events))
    if named == OWN_ERROR:
        said = f"the sender's or the adapter's own error: {best.violation.observed}"
        blame.errors.append(Breakdown(said, best.trace, best.violation.frames))
    elif named == rule:
        blame.evidence[rule] = evidence
        blame.after.pop(rule, None)
        if tally.candidates[rule] and tally.established(rule):
            blame.after[rule] = tally.established(rule)
    else:
        circumstance = replace(plain, clause=named)
        blame.evidence.setdefault(named, replace(evidence, violation=circumstance))
        blame.after.pop(named, None)
        blame.after[rule] = named
        if rule != OWN_ERROR:
            blame.evidence[rule] = evidence


def _already(shown: list[Shown], rule: str, tally: Tally) -> Shown | None:
    """A run that was shortened for another rule, and shows this one as well, first and in no circumstance."""
    for run in shown:
        for violation in run.violations:
            beside = {other.clause for other in run.violations if other.seq == violation.seq}
            if beside & SPECIAL_CASES.get(rule, frozenset()):
                continue  # it is about one of these; what breaks the rule alone has another trace
            if violation.clause == rule and not violation.after and tally.name(violation) == rule:
                return replace(run, violation=violation)
    return None


def _attribute_later(adapter: Adapter, tally: Tally, example: Example, blame: Blame, shown: list[Shown]) -> bool:
    """Attribute a rule by a run that breaks it after another one; whether that run repeats.

    Where nothing has shown it first, the shortest trace may do so after all. Then it is one that breaks first like
    others, in the circumstances of that trace.
    """
    rule = example.violation.clause
    best = shrink(adapter, example, first=False)
    if best is None:
        return False
    alone = None if rule in tally.first else show(adapter, best.trace, rule)
    if alone is not None and not excused(alone.violation, tally.claimed):
        tally.met_first(alone.trace, alone.violation, alone.violations)
        _attribute(adapter, tally, Example(alone.violation, alone.trace), blame, shown)
        return True
    if best.violation.after == OWN_ERROR and OWN_ERROR not in blame.after:
        return True  # an error of its own, which no clause explains, is told as what it is; what follows is no news
    if not best.violation.after:
        return False
    shown.append(best)
    _note_later(best, blame)
    return True


def _note_later(best: Shown, blame: Blame) -> None:
    rule, after = best.violation.clause, best.violation.after
    plain = replace(best.violation, contexts=frozenset())
    blame.evidence[rule] = Evidence(plain, trace=best.trace, history=best.history)
    blame.after[rule] = blame.after.get(after, after)


def _again(adapter: Adapter, best: Shown, tally: Tally) -> Shown | None:
    """How the trace breaks the same rule when it is replayed, with the end of a run where it has none itself.

    What a caller meets that goes on from there is seen as well.
    """
    return next((found for _ in tries(best.trace) if (found := _once_more(adapter, best, tally)) is not None), None)


def _once_more(adapter: Adapter, best: Shown, tally: Tally) -> Shown | None:
    try:
        run = run_trace(adapter, best.trace)
    except AdapterError:
        return None
    found, trace = run.observer.findings.violations, Trace(run.setup, tuple(run.steps))
    tally.met_afterwards(trace, found)
    same = [violation for violation in found if violation.clause == best.violation.clause]
    if not same:
        return None
    first = next((violation for violation in same if not violation.after), same[0])
    return Shown(first, trace, run.history, tuple(found))


def outermost(clause: str, blame: Blame) -> str:
    """The clause that breaks first of all where one breaks after another."""
    seen = {clause}
    after = blame.after.get(clause, "")
    while after in blame.after and after not in seen:
        seen.add(after)
        after = blame.after[after]
    return after


def _naming(header: Header, rule: str, clause: str) -> Header:
    names: dict[str, str] = {rule: clause}
    return msgspec.structs.replace(header, named=names)
