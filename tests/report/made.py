"""Reports and histories made by hand, for the tests of how they are shown."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Final

from rich.console import Console

from kvsender_spec.clauses import BY_ID, CLAUSES
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history import events as h
from kvsender_spec.history.header import Header, Source
from kvsender_spec.history.words import CallName, Destination, How, Origin, Says
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Breakdown, Evidence, Outcome, Report, SuiteSummary, Verdict, Violation
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

HOSTILE: Final = (
    '</pre></svg><script src="http://evil.example/x.js">alert(1)</script>\x00\x1b[31m]]>&amp;\ud800😀{{7*7}}'
)
"""A text that tries to get out of every kind of report."""
LONG: Final = "x" * 100_000

TRACE: Final = Trace(
    Setup(chunks=((1, 1),), peers=2),
    (
        Step(Call.OPEN),
        Step(Call.SEND, fault=Fault(Point.POST, Kind.BACKEND, 1)),
        Step(Call.POLL, progress=Progress.ALL),
        Step(Call.POLL),
    ),
)
OTHER_TRACE: Final = Trace(
    Setup(), (Step(Call.OPEN), Step(Call.KILL), Step(Call.SEND), Step(Call.ABORT), Step(Call.POLL))
)


class Script:
    """Writes a history event by event, and numbers the events."""

    def __init__(self) -> None:
        self.history: Final = h.History(
            header=Header(source=Source.SCRIPTED, vantage=tuple(h.KINDS)),
        )
        self._call: int | None = None

    @property
    def seq(self) -> int:
        """Of the next event."""
        return len(self.history.events)

    def add(self, event: h.AnyEvent) -> int:
        """Append an event that was made with ``seq=script.seq``; answer its number."""
        assert event.seq == self.seq
        self.history.events.append(event)
        return event.seq

    def step(self, text: str) -> None:
        self.add(h.StepStarted(seq=self.seq, t=0.0, text=text))

    def error(self, ref: int, text: str, type_: str = "nixlBackendError") -> int:
        self.add(h.ErrorSeen(seq=self.seq, t=0.0, ref=ref, type=type_, text=text, origin=Origin.TRANSPORT))
        return ref

    def call(self, what: CallName, pages: tuple[int, ...] = (), *, room: int = 0, last: bool = False) -> int:
        self._call = self.add(h.CallStarted(seq=self.seq, t=0.0, what=what, pages=pages, room=room, last=last))
        return self._call

    def ended(self, value: str | None = None, error: int | None = None, *, room: int = 0) -> int:
        assert self._call is not None
        return self.add(h.CallEnded(seq=self.seq, t=0.0, of=self._call, value=value, error=error, room=room))

    def make(self, handle: int, peer: str, message: str = "") -> None:
        self.add(h.TransferMade(seq=self.seq, t=0.0, peer=peer, handle=handle, message=message, pages=(0,)))

    def post(self, handle: int, answer: str | None = "PROC", error: int | None = None) -> None:
        self.add(h.TransferPosted(seq=self.seq, t=0.0, handle=handle, answer=answer, error=error))

    def check(self, handle: int, answer: str = "DONE") -> None:
        self.add(h.TransferChecked(seq=self.seq, t=0.0, handle=handle, answer=answer))

    def release(self, handle: int) -> None:
        self.add(h.TransferReleased(seq=self.seq, t=0.0, handle=handle))

    def opened(self, *peers: str, room: int = 0, number: int = 7) -> None:
        destinations = tuple(Destination(peer=peer) for peer in peers)
        self.add(h.RoomOpened(seq=self.seq, t=0.0, room=room, id=number, pages=2, destinations=destinations))


def success_after_failure(text: str = "injected nixlBackendError") -> tuple[h.History, int]:
    """What ``TRACE`` shows of a sender that swallows an error: the history, and the poll() that answers Success."""
    script = Script()
    script.step("open(0)")
    script.call(CallName.INIT)
    script.opened("decode0", "decode1")
    script.ended()
    script.step("send(0) with post[1]=nixlBackendError")
    script.call(CallName.SEND, (0, 1), last=True)
    script.make(1, "decode0", "room 7")
    script.post(1)
    script.make(2, "decode1")
    script.error(1, text)
    script.post(2, None, 1)
    script.ended()
    script.step("poll(0) after all finished")
    script.call(CallName.POLL)
    script.check(1)
    script.release(1)
    shown = script.ended("Success")
    script.add(h.BytesCompared(seq=script.seq, t=0.0, differ="page 0 of decode1", room=0))
    script.add(h.NotificationHeard(seq=script.seq, t=0.0, peer="decode0", says=Says.SUCCESS, id=7))
    script.step("poll(0)")
    script.call(CallName.POLL)
    script.ended("Success")
    script.add(h.RunEnded(seq=script.seq, t=0.0))
    return script.history, shown


def evidence(clause: str, seq: int, history: h.History | None, trace: Trace | None = TRACE, **more: str) -> Evidence:
    violation = Violation(
        clause,
        expected=more.get("expected", "Failed, because handle 2 was refused"),
        observed=more.get("observed", "poll() answered Success"),
        seq=seq,
        room=0,
        after=more.get("after", ""),
    )
    return Evidence(violation, where=more.get("where", ""), trace=trace, history=history)


def broken(clause: str, found: Evidence, *, times: int = 3, observed: int = 12) -> Verdict:
    after = found.violation.after
    outcome = Outcome.FAIL_AFTER if after else Outcome.FAIL
    return Verdict(BY_ID[clause], outcome, observed, times, after=after, evidence=found)


def verdicts(*told: Verdict) -> tuple[Verdict, ...]:
    """A verdict on every clause: a pass where nothing else is told."""
    known = {verdict.clause.id: verdict for verdict in told}
    return tuple(known.get(clause.id, Verdict(clause, Outcome.PASS, 5)) for clause in CLAUSES)


def failing(adapter: str = "swallows", text: str = "injected nixlBackendError") -> Report:
    """KS-2.2 breaks first and KS-1.2 with it, KS-3.1 only after; KS-6.1 breaks elsewhere; KS-8.1 is not claimed."""
    history, shown = success_after_failure(text)
    later = evidence("KS-3.1", shown + 1, history, after="KS-2.2", expected="equal bytes", observed="page 0 differs")
    told = (
        broken("KS-1.2", evidence("KS-1.2", shown, history, expected="the room fails", observed=text)),
        broken("KS-2.2", evidence("KS-2.2", shown - 1, history, observed=f"Success after {text}")),
        broken("KS-3.1", later),
        broken("KS-6.1", evidence("KS-6.1", -1, None, OTHER_TRACE, observed="no notification at decode0")),
        Verdict(
            BY_ID["KS-8.1"],
            Outcome.NOT_CLAIMED,
            4,
            2,
            note="not claimed by profile quiescent",
            evidence=evidence("KS-8.1", -1, None, OTHER_TRACE, observed="a bad page was posted"),
        ),
        Verdict(BY_ID["KS-7.1"], Outcome.NOT_APPLICABLE, note="the system has no workers"),
        Verdict(BY_ID["KS-7.2"], Outcome.NOT_CLAIMED, 3, note="not claimed by profile quiescent"),
        Verdict(BY_ID["KS-3.6"], Outcome.INCONCLUSIVE, note="never observed"),
    )
    return Report(adapter, Profile.QUIESCENT, 0, 100, 1234, verdicts(*told), claims=Profile.FULL)


def passing(adapter: str = "good") -> Report:
    return Report(adapter, Profile.FULL, 0, 100, 1234, verdicts())


def undecided(adapter: str = "undecided") -> Report:
    return replace(passing(adapter), verdicts=verdicts(Verdict(BY_ID["KS-4.4"], Outcome.INCONCLUSIVE, note="never")))


def breaking(adapter: str = "stumbles", text: str = "open raised OSError: no such device") -> Report:
    """The adapter breaks twice in the same way and once in another one."""
    errors = (
        Breakdown(text, TRACE, ("adapter.py:12 in open", f"device.py:3 in find {text}")),
        Breakdown(text, OTHER_TRACE, ("adapter.py:12 in open", f"device.py:3 in find {text}")),
        Breakdown("sender raised KeyError: 3", OTHER_TRACE),
    )
    return replace(passing(adapter), errors=errors)


def hostile() -> Report:
    """Every text in it that is not the project's own is hostile."""
    report = failing(HOSTILE, HOSTILE)
    stray = replace(evidence("KS-5.1", 3, None, None, observed=LONG + HOSTILE, where=HOSTILE))
    violation = replace(stray.violation, frames=(HOSTILE,), contexts=frozenset({"KS-5.2"}), expected=f"a\n{HOSTILE}")
    told = {
        "KS-5.1": broken("KS-5.1", replace(stray, violation=violation)),
        "KS-4.4": Verdict(BY_ID["KS-4.4"], Outcome.ERROR, note=HOSTILE),
        "KS-2.4": broken("KS-2.4", evidence("KS-2.4", 2, every_event(HOSTILE), OTHER_TRACE, observed=LONG)),
    }
    facts: dict[str, object] = {"verdict": "fail", HOSTILE: [HOSTILE, {"a": (HOSTILE,)}]}
    suite = SuiteSummary(Outcome.FAIL, (HOSTILE, LONG, HOSTILE), facts)
    return replace(
        report,
        strict=True,
        verdicts=tuple(told.get(verdict.clause.id, verdict) for verdict in report.verdicts),
        errors=breaking(text=HOSTILE).errors,
        suite=suite,
    )


def every_event(text: str = "words") -> h.History:
    """One event of every kind at least; ``text`` stands wherever a text may."""
    script = Script()
    script.step(text)
    script.error(1, text, text)
    script.opened(text, "decode0")
    call = script.call(CallName.SEND, tuple(range(40)), last=True)
    at = script.seq
    several: tuple[h.AnyEvent, ...] = (
        h.CallStuck(seq=at, t=1.0, of=call, after_s=5.0, stack=(text,)),
        h.TransferMade(seq=at + 1, t=1.0, peer=text, handle=1, message=text),
        h.TransferMade(seq=at + 2, t=1.0, peer=text, error=1),
        h.TransferPosted(seq=at + 3, t=1.0, handle=1, answer=text),
        h.TransferChecked(seq=at + 4, t=1.0, handle=1, error=1),
        h.TransferReleased(seq=at + 5, t=1.0, handle=1, how="last reference"),
        h.NotificationSent(seq=at + 6, t=1.0, peer=text, message=text),
        h.PeerAdded(seq=at + 7, t=1.0, peer=text),
        h.PeerRemoved(seq=at + 8, t=1.0, peer=text),
        h.PeerLost(seq=at + 9, t=1.0, peer=text),
        h.PeerSilent(seq=at + 10, t=1.0, peer=text),
        h.PeerResumed(seq=at + 11, t=1.0, peer=text),
        h.PeerReturned(seq=at + 12, t=1.0, peer=text, generation=1),
        h.LinkCut(seq=at + 13, t=1.0, peer=text),
        h.BytesLanded(seq=at + 14, t=1.0, handle=1, bytes=64, late=True, foreign=True),
        h.BytesCompared(seq=at + 15, t=1.0, differ=text, outside=True),
        h.PagesHeld(seq=at + 16, t=1.0, pages=(1, 2)),
        h.NotificationHeard(seq=at + 17, t=1.0, peer=text, says=Says.FAILURE, id=7, reason=text),
        h.ControlArrived(seq=at + 18, t=1.0, malformed=True, message=text),
        h.WorkerEnded(seq=at + 19, t=1.0, name=text),
        h.ClockAdvanced(seq=at + 20, t=31.0, by_s=30.0),
        h.FaultsOver(seq=at + 21, t=31.0),
        h.KeptCounted(seq=at + 22, t=31.0, entries=1),
        h.ImportProbed(seq=at + 23, t=31.0, module=text, failure=text),
        h.EventsDropped(seq=at + 24, t=31.0, count=3),
        h.CallEnded(seq=at + 25, t=31.0, of=call, error=1, attribution=text, thread=1),
        h.CallEnded(seq=at + 26, t=31.0, of=call, error=99),
        h.PagesRefilled(seq=at + 27, t=31.0, peer=text, pages=(1, 2)),
        h.NoticeArrived(seq=at + 28, t=31.0, peer=text, says=Says.FAILURE, quiesced=True, how=How.AGAIN),
        h.FenceTold(seq=at + 29, t=31.0, peer=text, generation=1),
        h.PagesReused(seq=at + 30, t=31.0, pages=(1, 2), raised_before=False),
        h.PagesPublished(seq=at + 31, t=31.0, pages=(1, 2)),
        h.RunEnded(seq=at + 32, t=31.0, complete=False, why=text),
    )
    for event in several:
        script.add(event)
    return script.history


def printed(width: int = 160) -> tuple[Console, io.StringIO]:
    """A console without colours, and where it prints."""
    out = io.StringIO()
    return Console(file=out, color_system=None, highlight=False, width=width), out
