"""A history for a viewer of traces: Chrome's trace-event JSON, which https://ui.perfetto.dev opens.

Calls of the caller are slices in the lane of their thread. Transfers are asynchronous slices in the process of their
peer, from the post to the answer with which they settle. Everything else is an instant: in the peer's process what is
about a peer, in its thread the rest. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from kvsender_spec.history import events as h
from kvsender_spec.history.plain import one_line
from kvsender_spec.history.telling import TEXT_LIMIT, AboutPeer, Teller, asked

SENDER: Final = 1
"""The number of the sender's process in the trace; those of the peers follow."""
IN_FLIGHT: Final = "PROC"


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the trace, by the names of the format: ``ph`` is its phase, ``ts`` and ``dur`` microseconds."""

    name: str
    ph: Literal["M", "X", "b", "e", "i"]
    pid: int
    tid: int
    ts: float | None = None
    dur: float | None = None
    cat: str = ""
    id: str = ""
    s: Literal["", "p", "t"] = ""
    """The scope of an instant: its process or its thread."""
    args: msgspec.Raw | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    displayTimeUnit: Literal["ms"] = "ms"
    traceEvents: list[_Entry]
    otherData: msgspec.Raw
    """The header of the history."""


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


class _Export:
    def __init__(self, history: h.History) -> None:
        self._history: Final = history
        self._teller: Final = Teller(history)
        self._ends: Final = {event.of: event for event in history.events if isinstance(event, h.CallEnded)}
        self._last: Final = history.events[-1].t if history.events else 0.0
        self._pids: Final[dict[str, int]] = {}
        self._peers: Final[dict[int, str]] = {}
        """The peer of a handle."""
        self._flying: Final[dict[int, None]] = {}
        """The handles that are in flight, in the order of their posts."""
        self._threads: Final = {0}

    def entries(self) -> Iterator[_Entry]:
        for event in self._history.events:
            self._threads.add(event.thread)
            if isinstance(event, h.CallStarted):
                yield self._call(event)
            elif not isinstance(event, h.CallEnded):
                yield from self._transfer(event)
                yield self._instant(event)
        for handle in tuple(self._flying):
            yield self._edge(handle, "e", self._last, _raw({"unsettled": True}))
        yield from self._names()

    def _call(self, event: h.CallStarted) -> _Entry:
        end = self._ends.get(event.seq)
        came = "not back at the end" if end is None else self._teller.outcome(end)
        where = {} if event.room is None else {"room": event.room}
        until = self._last if end is None else end.t
        return _Entry(
            name=f"{asked(event)}: {came}",
            ph="X",
            cat="call",
            pid=SENDER,
            tid=event.thread,
            ts=_us(event.t),
            dur=_us(until - event.t),
            args=_raw({"seq": event.seq, "came": came, **where}),
        )

    def _transfer(self, event: h.AnyEvent) -> Iterator[_Entry]:
        """The edges of the slice of a transfer. One that is posted again has another slice."""
        if isinstance(event, h.TransferMade) and event.handle is not None:
            self._peers[event.handle] = event.peer
        if isinstance(event, h.TransferPosted) and event.handle not in self._flying:
            self._flying[event.handle] = None
            yield self._edge(event.handle, "b", event.t, _raw(event))
        match event:
            case h.TransferPosted(answer=answer) | h.TransferChecked(answer=answer) if answer == IN_FLIGHT:
                pass
            case h.TransferPosted() | h.TransferChecked() | h.TransferReleased() if event.handle in self._flying:
                del self._flying[event.handle]
                yield self._edge(event.handle, "e", event.t, _raw(event))
            case _:
                pass

    def _edge(self, handle: int, phase: Literal["b", "e"], t: float, args: msgspec.Raw) -> _Entry:
        pid = self._pid(self._peers.get(handle, "a peer that was lost"))
        name = f"handle {handle}"
        return _Entry(name=name, ph=phase, cat="transfer", id=str(handle), pid=pid, tid=0, ts=_us(t), args=args)

    def _instant(self, event: h.AnyEvent) -> _Entry:
        words, t, args = self._teller.words(event), _us(event.t), _raw(event)
        if isinstance(event, AboutPeer):
            return _Entry(name=words, ph="i", cat="peer", s="p", pid=self._pid(event.peer), tid=0, ts=t, args=args)
        return _Entry(name=words, ph="i", cat="event", s="t", pid=SENDER, tid=event.thread, ts=t, args=args)

    def _pid(self, peer: str) -> int:
        return self._pids.setdefault(peer, SENDER + 1 + len(self._pids))

    def _names(self) -> Iterator[_Entry]:
        processes = {
            SENDER: "sender",
            **{pid: f"peer {one_line(peer, TEXT_LIMIT)}" for peer, pid in self._pids.items()},
        }
        for pid, name in processes.items():
            yield _Entry(name="process_name", ph="M", pid=pid, tid=0, args=_raw({"name": name}))
        for thread in sorted(self._threads):
            name = f"thread {thread}" if thread else "caller"
            yield _Entry(name="thread_name", ph="M", pid=SENDER, tid=thread, args=_raw({"name": name}))


def to_perfetto(history: h.History) -> str:
    """The history as trace-event JSON. The same history gives the same text."""
    entries = list(_Export(history).entries())
    return msgspec.json.encode(_File(traceEvents=entries, otherData=_raw(history.header))).decode() + "\n"
