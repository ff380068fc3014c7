"""Histories for tests: one that holds every kind of event, and a strategy for right ones of any shape."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec
from hypothesis import strategies as st

from kvsender_spec.contract import KVPoll
from kvsender_spec.history import events as h
from kvsender_spec.history.header import Header, Source
from kvsender_spec.history.words import CallName, Destination, Origin, Says

HEADER: Final = Header(
    source=Source.SCRIPTED, vantage=tuple(h.kind_of(one) for one in h.EVENT_TYPES), subject="a sender"
)

EVERYTHING: Final[tuple[h.AnyEvent, ...]] = (
    h.PeerAdded(seq=0, t=0.0, peer="decode0"),
    h.StepStarted(seq=1, t=0.0, text="open(0)"),
    h.RoomOpened(
        seq=2, t=0.001, room=4, id=17, pages=2, destinations=(Destination(peer="decode0", pages=(8, 9), aux=1),)
    ),
    h.CallStarted(seq=3, t=0.001, room=4, what=CallName.INIT),
    h.CallEnded(seq=4, t=0.002, room=4, of=3),
    h.StepStarted(seq=5, t=0.002, text="send(0) with post=nixlRemoteDisconnectError"),
    h.CallStarted(seq=6, t=0.003, room=4, what=CallName.SEND, pages=(3, 5), last=True),
    h.TransferMade(
        seq=7, t=0.004, call=6, room=4, peer="decode0", handle=0, pages=(3, 5), target=(8, 9), aux=1, message="17:done"
    ),
    h.ErrorSeen(
        seq=8,
        t=0.005,
        call=6,
        ref=0,
        type="nixlRemoteDisconnectError",
        text="NIXL_ERR_REMOTE_DISCONNECT",
        origin=Origin.TRANSPORT,
        disconnect=True,
    ),
    h.TransferPosted(seq=9, t=0.005, call=6, room=4, handle=0, error=0),
    h.BytesLanded(seq=10, t=0.0055, room=4, handle=0, bytes=4096, late=True),
    h.CallEnded(seq=11, t=0.006, room=4, of=6),
    h.TransferMade(seq=12, t=0.006, room=4, thread=1, peer="decode0", handle=1, pages=(3,), target=(8,)),
    h.TransferPosted(seq=13, t=0.006, room=4, thread=1, handle=1, answer="PROC"),
    h.LinkCut(seq=14, t=0.006, peer="decode0"),
    h.PeerSilent(seq=15, t=0.007, peer="decode0"),
    h.PeerResumed(seq=16, t=0.008, peer="decode0"),
    h.PeerLost(seq=17, t=0.009, peer="decode0"),
    h.CallStarted(seq=18, t=0.01, room=4, what=CallName.POLL),
    h.TransferChecked(seq=19, t=0.01, call=18, room=4, handle=1, answer="DONE"),
    h.TransferReleased(seq=20, t=0.011, call=18, room=4, handle=1),
    h.NotificationSent(seq=21, t=0.011, call=18, room=4, peer="decode0", message="17:failed"),
    h.CallEnded(seq=22, t=0.012, room=4, of=18, value="Failed"),
    h.NotificationHeard(seq=23, t=0.012, room=4, peer="decode0", says=Says.FAILURE, id=17, reason="disconnected"),
    h.PagesHeld(seq=24, t=0.012, room=4, pages=(3, 5)),
    h.BytesCompared(seq=25, t=0.012, room=4, differ="page 8 of decode0", outside=True),
    h.PeerReturned(seq=26, t=0.02, peer="decode0.1", generation=1, was="decode0"),
    h.PeerRemoved(seq=27, t=0.02, peer="decode0"),
    h.ControlArrived(seq=28, t=0.02, malformed=True, message="\x1b[2Jnonsense"),
    h.WorkerEnded(seq=29, t=0.02, thread=2, name="bootstrap"),
    h.CallStarted(
        seq=30, t=0.02, room=4, thread=1, what=CallName.SEND, pages=(3, 0.5), misuse="page ids that are not integers"
    ),
    h.CallStuck(seq=31, t=5.02, room=4, thread=1, of=30, after_s=5.0, stack=("sender.py:12 in send",)),
    h.ClockAdvanced(seq=32, t=5.02, by_s=5.5),
    h.FaultsOver(seq=33, t=10.52),
    h.TransferReleased(seq=34, t=10.52, room=4, handle=0, how="last reference"),
    h.KeptCounted(seq=35, t=10.52, entries=1, in_flight=0),
    h.ImportProbed(seq=36, t=10.52, module="adapter"),
    h.PagesRefilled(seq=37, t=10.52, room=4, peer="decode0", pages=(8,)),
    h.NoticeArrived(seq=38, t=10.52, room=4, peer="decode0", says=Says.SUCCESS),
    h.FenceTold(seq=39, t=10.52, peer="decode0", generation=1),
    h.PagesReused(seq=40, t=10.52, pages=(3, 5)),
    h.PagesPublished(seq=41, t=10.52, pages=(3,)),
    h.EventsDropped(seq=42, t=10.52, count=3),
    h.RunEnded(seq=43, t=10.52, why="the end"),
)
"""A history with every kind of event, each where it may stand."""


def everything() -> h.History:
    return h.History(header=HEADER, events=list(EVERYTHING))


_FINITE: Final = st.floats(allow_nan=False, allow_infinity=False)
_GIVEN: Final[dict[str, st.SearchStrategy[object]]] = {"t": st.just(0.0), "after_s": _FINITE, "by_s": _FINITE}
_VALUES: Final = st.none() | st.sampled_from(list(KVPoll.__members__))
_PAGES: Final = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | _FINITE, max_size=3).map(tuple)


def _any(one: type[h.Event]) -> st.SearchStrategy[h.Event]:
    """Any event of the type, whatever it refers to."""
    fields: dict[str, object] = {name: _GIVEN.get(name, ...) for name in one.__struct_fields__}
    if one is h.CallStarted:
        fields["pages"] = _PAGES
    elif one is h.CallEnded:
        fields["value"] = _VALUES
    return st.builds(one, **fields)  # type: ignore[arg-type]


_INTRODUCE: Final[tuple[type[h.Event], ...]] = (h.RoomOpened, h.CallStarted, h.TransferMade, h.ErrorSeen)
_ORDERS: Final = st.permutations([one for one in h.EVENT_TYPES if one is not h.RunEnded])


def _right(events: list[h.Event], chance: random.Random) -> Iterator[h.Event]:
    """The events with references that hold; those for which there is nothing to refer to are left out."""
    rooms: list[int] = []
    handles: list[int] = []
    errors: list[int] = []
    calls: list[int] = []
    live: list[int] = []
    seq, t = 0, 0.0

    def some(known: list[int]) -> int | None:
        return chance.choice([None, *known])

    for event in events:
        t += chance.choice([0.0, 0.001, 1.5])
        changes: dict[str, object] = {"seq": seq, "t": t, "call": some(calls), "room": some(rooms)}
        names = event.__struct_fields__
        if isinstance(event, h.RoomOpened):
            rooms.append(len(rooms) * 3)
            changes["room"] = rooms[-1]
        elif isinstance(event, h.TransferMade):
            if event.handle is not None:
                handles.append(len(handles))
                changes["handle"] = handles[-1]
        elif isinstance(event, h.BytesLanded):
            changes["handle"] = some(handles)
        elif "handle" in names:
            if not handles:
                continue
            changes["handle"] = chance.choice(handles)
        elif "of" in names:
            if not live:
                continue
            of = chance.choice(live)
            changes["of"] = of
            if isinstance(event, h.CallEnded):
                live.remove(of)
        elif isinstance(event, h.CallStarted):
            calls.append(seq)
            live.append(seq)
            changes["call"] = None
        elif isinstance(event, h.ErrorSeen):
            changes |= {"ref": len(errors), "cause": some(errors)}
            errors.append(len(errors))
        if "error" in names:
            changes["error"] = some(errors)
        yield msgspec.structs.replace(event, **changes)
        seq += 1


@st.composite
def histories(draw: st.DrawFn) -> h.History:
    """Histories that ``read`` takes, with any of the other values that fields may have."""
    chance = draw(st.randoms(use_true_random=False))
    kinds = [*_INTRODUCE, *draw(_ORDERS)][: draw(st.integers(0, len(h.EVENT_TYPES) + len(_INTRODUCE)))]
    events = list(_right([draw(_any(kind)) for kind in kinds], chance))
    if draw(st.booleans()):
        last = draw(_any(h.RunEnded))
        t = events[-1].t if events else 0.0
        events.append(msgspec.structs.replace(last, seq=len(events), t=t, call=None, room=None))
    return msgspec.convert(
        {"header": draw(st.builds(_header, st.text(), st.sampled_from(Source))), "events": events}, h.History
    )


def _header(subject: str, source: Source) -> Header:
    return msgspec.structs.replace(HEADER, subject=subject, source=source)
