"""Events of one room, made by hand, for what no file of tests/histories is about."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from tests.history.drawn import HEADER
from tests.observe.runs import files

from kvsender_spec.history.events import (
    AnyEvent,
    CallEnded,
    CallStarted,
    ErrorSeen,
    EventsDropped,
    History,
    PagesHeld,
    RoomOpened,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.words import CallName, Destination, Origin

FULL: Final = replace(HEADER, can=files()["ks-2.1-breaks"].header.can)


class Script:
    """Notes events, one after the other. The room has one page, at one peer, and one handle."""

    def __init__(self) -> None:
        self.events: Final[list[AnyEvent]] = []

    def _note(self, event: AnyEvent) -> int:
        seq = len(self.events)
        self.events.append(replace(event, seq=seq))
        return seq

    def history(self, *lost: int) -> History:
        """The events, some of them lost."""
        gone = {seq: EventsDropped(seq=seq, t=0.0, count=1) for seq in lost}
        return History(header=FULL, events=[gone.get(event.seq, event) for event in self.events])

    def opened(self) -> int:
        there = Destination(peer="decode0", pages=(8,), aux=8)
        return self._note(RoomOpened(seq=0, t=0.0, room=1, id=101, pages=1, destinations=(there,)))

    def error(self, ref: int = 0, origin: Origin = Origin.TRANSPORT, text: str = "NIXL_ERR_BACKEND") -> int:
        return self._note(ErrorSeen(seq=0, t=0.0, ref=ref, type="nixlBackendError", text=text, origin=origin))

    def call(self, what: CallName, *, last: bool = False, misuse: str = "") -> int:
        return self._note(
            CallStarted(seq=0, t=0.0, room=1, what=what, pages=(3,) if last else (), last=last, misuse=misuse)
        )

    def back(self, of: int, value: str | None = None, error: int | None = None) -> int:
        return self._note(CallEnded(seq=0, t=0.0, room=1, of=of, value=value, error=error))

    def asked(self, what: CallName, value: str | None = None, error: int | None = None) -> int:
        """A call in which the transport is not asked. Returns the seq of its end."""
        return self.back(self.call(what), value, error)

    def made(self) -> int:
        return self._note(TransferMade(seq=0, t=0.0, room=1, peer="decode0", handle=0, pages=(3,), target=(8,)))

    def posted(self, error: int | None = None) -> int:
        answer = "PROC" if error is None else None
        return self._note(TransferPosted(seq=0, t=0.0, room=1, handle=0, answer=answer, error=error))

    def sent(self) -> int:
        """send() of the only chunk; the transport accepts it."""
        of = self.call(CallName.SEND, last=True)
        self.made()
        self.posted()
        return self.back(of)

    def checked(self, answer: str | None = None, error: int | None = None) -> int:
        return self._note(TransferChecked(seq=0, t=0.0, room=1, handle=0, answer=answer, error=error))

    def released(self, error: int | None = None) -> int:
        return self._note(TransferReleased(seq=0, t=0.0, room=1, handle=0, error=error))

    def held(self, *pages: int) -> int:
        return self._note(PagesHeld(seq=0, t=0.0, room=1, pages=pages))

    def nothing(self) -> int:
        """Something that has no part in the room, to be lost."""
        return self._note(EventsDropped(seq=0, t=0.0, count=1))
