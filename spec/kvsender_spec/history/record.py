"""Writes a history while it happens: numbers events, threads and errors, and knows which call encloses an event.

One recorder serves every source. The scripted agent, a wrapper of a real agent and whoever makes the caller's calls
tell it what happened; it makes the event and hands it to ``see``, in one order for all threads.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import RLock, get_ident
from types import FrameType
from typing import Final, Literal, Protocol

from kvsender_spec.history.events import (
    AnyEvent,
    CallEnded,
    CallName,
    CallStarted,
    ErrorSeen,
    History,
    NotificationSent,
    Origin,
    PeerAdded,
    RunEnded,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.header import Header

TEXT_LIMIT: Final = 4000
"""Characters of an error that are kept: a sender's error may quote all that it knows."""
MESSAGE_LIMIT: Final = 200
_FRAMES: Final = 6
_LINKS: Final = 16
_MARK: Final = "__kvsender_ref__"


@dataclass(frozen=True, slots=True)
class ErrorClasses:
    """How the subject's world tells errors apart."""

    transport: tuple[type[BaseException], ...]
    disconnect: type[BaseException] | None
    usage: tuple[type[BaseException], ...]
    released: tuple[type[BaseException], ...] = ()
    """Raised where a released handle is used."""

    def origin(self, error: BaseException) -> Origin:
        """Where an error comes from, by its class."""
        if isinstance(error, self.transport) or type(error) is RuntimeError:
            return Origin.TRANSPORT
        if isinstance(error, self.released):
            return Origin.RELEASED
        if isinstance(error, self.usage):
            return Origin.USAGE
        return Origin.OTHER if isinstance(error, Exception) else Origin.BASE


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


class Outside(Protocol):
    """Makes an event that belongs to no call: something in the world, or something that was looked at."""

    def __call__(self, *, seq: int, t: float, thread: int) -> AnyEvent: ...


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
        self._lock: Final = RLock()
        self._threads: Final[dict[int, _Thread]] = {}
        """By identifier."""
        self._began: Final[dict[int, _Thread]] = {}
        """The thread of each open call."""
        self._errors = 0
        self._unmarkable: Final[dict[int, tuple[BaseException, int]]] = {}
        self._last_t = 0.0
        self._busy = False
        """An event is being added, or the history has ended."""
        self._ended = False
        """What happens when a run is torn down is no part of it."""
        self._late: Final[list[Callable[[int, float, int, int | None], AnyEvent]]] = []

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

    def add(self, make: Callable[[int, float, int, int | None], AnyEvent]) -> int:
        """Add the event that ``make`` makes of seq, time, thread and enclosing call. Returns its seq."""
        # This is what a live system pays for each event, so that nothing here is a call that need not be one.
        with self._lock:
            if self._busy:
                # The garbage collector may drop a handle at any instant, also while an event is made or looked at.
                if not self._ended:
                    self._late.append(make)
                return -1
            self._busy = True
            try:
                now = self._now()
                if now > self._last_t:
                    self._last_t = now
                thread = self._threads.get(get_ident())
                if thread is None:
                    thread = self._new_thread()
                seq = len(self._events)
                event = make(seq, self._last_t, thread.number, thread.calls[-1] if thread.calls else None)
                self._events.append(event)
                if self._see is not None:
                    self._see(event)
                if type(event) is RunEnded:
                    self._ended = True
            finally:
                self._busy = self._ended
            while self._late:
                self.add(self._late.pop(0))
            return seq

    def _new_thread(self) -> _Thread:
        number = max([1, *(thread.number for thread in self._threads.values())]) + 1
        thread = self._threads[get_ident()] = _Thread(number, [])
        return thread

    def note(self, make: Outside) -> int:
        """Add an event that belongs to no call. Returns its seq."""
        return self.add(lambda seq, t, thread, _: make(seq=seq, t=t, thread=thread))

    # -- errors

    def error(self, error: BaseException, *, refused: bool = False) -> int:
        """The number of an error object, which is written down at first sight."""
        with self._lock:
            known = self._known(error)
            return self._write(error, refused=refused) if known is None else known

    def _known(self, error: BaseException) -> int | None:
        kept = self._unmarkable.get(id(error))
        if kept is not None:
            return kept[1]
        mark: object = getattr(error, _MARK, None)
        # A copy of an error carries the mark of its original, which is another object.
        return mark[2] if isinstance(mark, tuple) and mark[:2] == (id(self), id(error)) else None

    def _write(self, error: BaseException, *, refused: bool, depth: int = 0) -> int:
        cause = error.__cause__
        below = None
        if cause is not None and depth < _LINKS:
            known = self._known(cause)
            below = self._write(cause, refused=False, depth=depth + 1) if known is None else known
        ref, self._errors = self._errors, self._errors + 1
        try:
            # A mark, because a reference to the error would keep what its frames hold alive: the sender's handles.
            setattr(error, _MARK, (id(self), id(error), ref))
        except (TypeError, AttributeError):
            self._unmarkable[id(error)] = (error, ref)
        origin = Origin.REFUSED if refused else self.classes.origin(error)
        disconnect = self.classes.disconnect
        shown = None if self._shown is None or origin is Origin.BASE else self._shown(error)
        self.add(
            lambda seq, t, thread, call: ErrorSeen(
                seq,
                t,
                thread,
                call,
                ref=ref,
                type=type(error).__name__,
                text=text_of(error),
                origin=origin,
                cause=below,
                disconnect=disconnect is not None and isinstance(error, disconnect),
                shown=shown,
                frames=frames_of(error) if origin is Origin.OTHER else (),
            )
        )
        return ref

    # -- calls of the caller

    def call_started(
        self,
        what: CallName,
        room: int | None,
        *,
        pages: Sequence[int | float] = (),
        last: bool = False,
        misuse: str = "",
    ) -> int:
        """A call begins in this thread."""
        seq = self.add(
            lambda seq, t, thread, _: CallStarted(
                seq, t, thread, room=room, what=what, pages=tuple(pages), last=last, misuse=misuse
            )
        )
        if seq >= 0:
            caller = self._began[seq] = self._threads[get_ident()]
            caller.calls.append(seq)
        return seq

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
        began = self._began.pop(of, None)
        if began is not None:
            began.calls.remove(of)
        number = 0 if began is None else began.number
        self.add(
            lambda seq, t, _, __: CallEnded(
                seq, t, number, room=room, of=of, value=value, error=ref, attribution=attribution
            )
        )

    # -- calls of the transport

    def made(self, peer: str, handle: int | None, place: Place, message: bytes, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(
            lambda seq, t, thread, call: TransferMade(
                seq,
                t,
                thread,
                call,
                room=place.room,
                peer=peer,
                handle=handle,
                generation=place.generation,
                pages=tuple(place.pages),
                target=tuple(place.target),
                aux=place.aux,
                message=message_of(message),
                error=ref,
            )
        )

    def posted(self, handle: int, answer: str | None, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(
            lambda seq, t, thread, call: TransferPosted(seq, t, thread, call, handle=handle, answer=answer, error=ref)
        )

    def checked(self, handle: int, answer: str | None, error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(
            lambda seq, t, thread, call: TransferChecked(seq, t, thread, call, handle=handle, answer=answer, error=ref)
        )

    def released(self, handle: int, how: Literal["call", "last reference"], error: BaseException | None) -> None:
        ref = None if error is None else self.error(error)
        self.add(lambda seq, t, thread, call: TransferReleased(seq, t, thread, call, handle=handle, how=how, error=ref))

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


def text_of(error: BaseException) -> str:
    """An error's text, which an error of somebody else's may refuse to give."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"<str() raised {type(broken).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no text
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} ..."


def message_of(message: bytes) -> str:
    """A notification as text, short."""
    text = message[: MESSAGE_LIMIT + 1].decode("utf-8", "backslashreplace")
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]} ..."


def frames_of(error: BaseException) -> tuple[str, ...]:
    """The last frames in which an error was raised: file, line, function."""
    return tuple(_frame(frame, line) for frame, line in deque(traceback.walk_tb(error.__traceback__), _FRAMES))


def stack_of(ident: int | None) -> tuple[str, ...]:
    """The last frames of a thread that runs: file, line, function."""
    frame = None if ident is None else sys._current_frames().get(ident)
    frames = tuple(_frame(frame, line) for frame, line in islice(traceback.walk_stack(frame), _FRAMES)) if frame else ()
    return frames[::-1]


def _frame(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{line} in {code.co_name}"
