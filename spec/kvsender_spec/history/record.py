"""Writes a history while it happens: numbers events, threads and errors, and knows which call encloses an event.

One recorder serves every source. The scripted agent, a wrapper of a real agent and whoever makes the caller's calls
tell it what happened; it makes the event and hands it to ``see``, in one order for all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import RLock, get_ident
from typing import Final, Literal, Protocol, TypeAlias

from msgspec.structs import replace

from kvsender_spec.history.errors import ErrorClasses, frames_of, text_of
from kvsender_spec.history.events import (
    AnyEvent,
    CallEnded,
    CallStarted,
    ErrorSeen,
    History,
    NotificationSent,
    PeerAdded,
    RunEnded,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.header import Header
from kvsender_spec.history.words import CallName, Origin

MESSAGE_LIMIT: Final = 200
_LINKS: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """What a transfer reads and writes."""

    pages: Sequence[int] = ()
    target: Sequence[int] = ()
    aux: int | None = None
    generation: int = 0
    room: int | None = None
    """The key of the room, where the recorder's user knows it."""


NOWHERE: Final = Place()


@dataclass(slots=True)
class _Thread:
    """A thread, as the history knows it."""

    number: int
    calls: list[int]
    """The calls that are open in it, the innermost one last."""


_Stamp: TypeAlias = tuple[int, float, int, int | None]
"""What every event begins with: seq, time, thread, and the call that encloses it."""


class Outside(Protocol):
    """Makes an event that belongs to no call: something in the world, or something that was looked at."""

    def __call__(self, seq: int, t: float, thread: int, /) -> AnyEvent: ...


class Recorder:
    """Records one run. Safe to call from any thread.

    ``now`` answers seconds on the clock of the history, which begins at the header.
    """

    def __init__(
        self,
        header: Header,
        classes: ErrorClasses,
        now: Callable[[], float],
        see: Callable[[AnyEvent], object] | None = None,
        shown: Callable[[BaseException], str] | None = None,
    ) -> None:
        self.history: Final = History(header=header)
        self._events: Final = self.history.events
        self.classes: Final = classes
        self._now: Final = now
        self._see: Final = see
        self._shown: Final = shown
        lock = RLock()
        # In Python 3.11 a ``with`` of a lock takes twice as long.
        self._acquire: Final = lock.acquire
        self._release: Final = lock.release
        self._thread = _Thread(0, [])
        """The one whose event is being added."""
        self._threads: Final[dict[int, _Thread]] = {}
        """By identifier."""
        self._errors: Final[list[ErrorSeen]] = []
        """Each error as it was written last, by its number."""
        self._mark: Final = f"__kvsender_ref_{id(self):x}__"
        """The attribute by which an error is known again: each recorder has its own, and one error may meet two."""
        self._unmarkable: Final[dict[int, tuple[BaseException, int]]] = {}
        self._last_t = 0.0
        self._busy = False
        """An event is being added, or the history has ended."""
        self._ended = False
        """What happens when a run is torn down is no part of it."""
        self._late: Final[list[Callable[[], object]]] = []
        """What is to be told again when the event that is being added is there."""

    def name_threads(self, numbers: Mapping[int, int]) -> None:
        """Give threads, by their identifiers, numbers of the history; others get the next free ones.

        Threads with the same number count as one: a call that is begun in one of them encloses what the others do.
        """
        known = {thread.number: thread for thread in self._threads.values()}
        for ident, number in numbers.items():
            self._threads[ident] = known.setdefault(number, _Thread(number, []))

    @property
    def seq(self) -> int:
        """The number of the next event."""
        return len(self._events)

    # -- what every event has

    # This is what a live system pays for each event, so that the frequent ones are made where they are told.

    def _stamp(self) -> _Stamp | None:
        """What the next event begins with; takes the lock, which ``_take`` of the event gives back.

        None where an event is being added already: the garbage collector may drop a handle at any instant, also while
        an event is made or looked at.
        """
        now = self._now()
        self._acquire()
        if self._busy:
            self._release()
            return None
        self._busy = True
        if now > self._last_t:
            self._last_t = now
        self._thread = thread = self._threads.get(get_ident()) or self._new_thread()
        calls = thread.calls
        return len(self._events), self._last_t, thread.number, calls[-1] if calls else None

    def _take(self, event: AnyEvent) -> int:
        """Add the stamped event. Returns its seq."""
        try:
            self._events.append(event)
            if self._see is not None:
                self._see(event)
            self._busy = self._ended
            while self._late:
                self._late.pop(0)()
        finally:
            self._busy = self._ended
            self._release()
        return event.seq

    def _later(self, again: Callable[[], object]) -> None:
        """Tell it again when the event that is being added is there."""
        if not self._ended:
            self._late.append(again)

    def add(self, make: Callable[[int, float, int, int | None], AnyEvent]) -> int:
        """Add the event that ``make`` makes of seq, time, thread and enclosing call. Returns its seq."""
        stamp = self._stamp()
        if stamp is None:
            self._later(partial(self.add, make))
            return -1
        try:
            event = make(*stamp)
        except BaseException:
            self._busy = False
            self._release()
            raise
        self._ended = type(event) is RunEnded
        return self._take(event)

    def _new_thread(self) -> _Thread:
        number = max([1, *(thread.number for thread in self._threads.values())]) + 1
        thread = self._threads[get_ident()] = _Thread(number, [])
        return thread

    def note(self, make: Outside) -> int:
        """Add an event that belongs to no call. Returns its seq."""
        return self.add(lambda seq, t, thread, _: make(seq, t, thread))

    # -- errors

    def error(self, error: BaseException, *, refused: bool = False) -> int:
        """The number of an error object, which is written down at first sight, and again if its cause has changed."""
        self._acquire()
        try:
            return self._write(error, refused=refused)
        finally:
            self._release()

    def _known(self, error: BaseException) -> int | None:
        kept = self._unmarkable.get(id(error))
        if kept is not None:
            return kept[1]
        mark: object = getattr(error, self._mark, None)
        # A copy of an error carries the mark of its original, which is another object.
        return mark[2] if isinstance(mark, tuple) and mark[:2] == (id(self), id(error)) else None

    def _write(self, error: BaseException, *, refused: bool, depth: int = 0) -> int:
        cause, known = error.__cause__, self._known(error)
        below = None
        if cause is not None and depth < _LINKS:
            below = self._write(cause, refused=False, depth=depth + 1)
        if known is not None:
            if self._errors[known].cause != below:  # ``raise second from first``, where the transport has raised both
                self._see_error(replace(self._errors[known], cause=below))
            return known
        ref = len(self._errors)
        try:
            # A mark, because a reference to the error would keep what its frames hold alive: the sender's handles.
            setattr(error, self._mark, (id(self), id(error), ref))
        except (TypeError, AttributeError):
            self._unmarkable[id(error)] = (error, ref)
        origin = Origin.REFUSED if refused else self.classes.origin(error)
        seen = ErrorSeen(
            0,
            0.0,
            ref=ref,
            type=type(error).__name__,
            text=text_of(error),
            origin=origin,
            cause=below,
            disconnect=self.classes.disconnects(error),
            shown=None if self._shown is None or origin is Origin.BASE else self._shown(error),
            frames=frames_of(error) if origin is Origin.OTHER else (),
        )
        self._errors.append(seen)
        self._see_error(seen)
        return ref

    def _see_error(self, seen: ErrorSeen) -> None:
        self._errors[seen.ref] = seen
        self.add(lambda seq, t, thread, call: replace(seen, seq=seq, t=t, thread=thread, call=call))

    # -- calls of the caller

    def call_started(
        self,
        what: CallName,
        room: int | None,
        *,
        pages: Sequence[int | float] = (),
        last: bool = False,
        misuse: str = "",
        peer: str = "",
    ) -> int:
        """A call begins in this thread."""
        given = tuple(pages)
        stamp = self._stamp()
        if stamp is None:
            return -1  # the history has ended
        seq, now, number, _ = stamp
        self._thread.calls.append(seq)
        return self._take(
            CallStarted(seq, now, number, room=room, what=what, pages=given, last=last, misuse=misuse, peer=peer)
        )

    def call_ended(
        self,
        of: int,
        room: int | None,
        *,
        value: str | None = None,
        error: BaseException | None = None,
        attribution: str | None = None,
    ) -> None:
        """It came back."""
        ref = None if error is None else self.error(error)
        stamp = self._stamp()
        if stamp is None:
            return
        seq, now, _, __ = stamp
        began = self._thread if of in self._thread.calls else self._beginner(of)
        began.calls.remove(of)
        self._take(CallEnded(seq, now, began.number, room=room, of=of, value=value, error=ref, attribution=attribution))

    def _beginner(self, call: int) -> _Thread:
        """The thread in which a call was begun that comes back in another one."""
        return next((thread for thread in self._threads.values() if call in thread.calls), _Thread(0, [call]))

    # -- calls of the transport

    def made(self, peer: str, handle: int | None, place: Place, message: bytes, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        pages, target, text = tuple(place.pages), tuple(place.target), message_of(message)
        stamp = self._stamp()
        if stamp is None:
            self._later(partial(self.made, peer, handle, place, message, error))
            return
        seq, now, thread, call = stamp
        self._take(
            TransferMade(
                seq,
                now,
                thread,
                call,
                room=place.room,
                peer=peer,
                handle=handle,
                generation=place.generation,
                pages=pages,
                target=target,
                aux=place.aux,
                message=text,
                error=ref,
            )
        )

    def posted(self, handle: int, answer: str | None, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        stamp = self._stamp()
        if stamp is None:
            self._later(partial(self.posted, handle, answer, error))
            return
        seq, now, thread, call = stamp
        self._take(TransferPosted(seq, now, thread, call, handle=handle, answer=answer, error=ref))

    def checked(self, handle: int, answer: str | None, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        stamp = self._stamp()
        if stamp is None:
            self._later(partial(self.checked, handle, answer, error))
            return
        seq, now, thread, call = stamp
        self._take(TransferChecked(seq, now, thread, call, handle=handle, answer=answer, error=ref))

    def released(
        self, handle: int, how: Literal["call", "last reference", "deregistration"], error: BaseException | None
    ) -> None:
        ref = None if error is None else self.error(error)
        stamp = self._stamp()
        if stamp is None:
            self._later(partial(self.released, handle, how, error))
            return
        seq, now, thread, call = stamp
        self._take(TransferReleased(seq, now, thread, call, handle=handle, how=how, error=ref))

    def notified(self, peer: str, message: bytes, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(
            lambda seq, t, thread, call: NotificationSent(
                seq, t, thread, call, peer=peer, message=message_of(message), error=ref
            )
        )

    def peer_added(self, peer: str, generation: int, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(
            lambda seq, t, thread, call: PeerAdded(seq, t, thread, call, peer=peer, generation=generation, error=ref)
        )


def message_of(message: bytes) -> str:
    """A notification as text, short."""
    text = message[: MESSAGE_LIMIT + 1].decode("utf-8", "backslashreplace")
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]} ..."
