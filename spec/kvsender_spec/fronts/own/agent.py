"""The calls of a NIXL agent, real or fake, as events of a history.

``history.recording_agent.RecordingAgent`` does the same for ``contract.Transport`` alone. It gives tickets in the place
of handles, to notice each last reference, and refuses a handle that was released. Inside somebody's own test both would
change what the test sees: here the sender gets the agent's own handles, and a use after release goes through.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final, Protocol

from kvsender_spec.fronts.own.ledger import Ledger
from kvsender_spec.fronts.own.wrapper import AnyCall, Given, Tells, argument
from kvsender_spec.history.events import PeerRemoved
from kvsender_spec.history.record import Place


@dataclass(frozen=True, slots=True)
class Moves:
    """What one transfer moves, as far as it is known."""

    pages: Sequence[int] = ()
    """Page ids at the sender."""
    target: Sequence[int] = ()
    """Page ids at the peer."""
    aux: int | None = None
    """The aux slot at the peer."""
    room: int | None = None
    """The id of the room, as it was given to ``kvsender_history.sender``."""


class MovesOf(Protocol):
    """Says what a transfer moves. It gets the arguments of the call that makes the transfer, as they are."""

    def __call__(self, *args: object, **kwargs: object) -> Moves: ...


@dataclass(slots=True)
class _Handle:
    number: int
    open: bool
    """The transport has not said its last word on it."""
    kept: object
    """The handle itself, where a number that is found by its identity would otherwise come to mean another one."""


class AgentCalls:
    """Makes the calls of one agent and tells the recorder of them. Safe to call from any thread."""

    def __init__(self, ledger: Ledger, numbers: count[int], moves: MovesOf | None) -> None:
        self._ledger: Final = ledger
        self._recorder: Final = ledger.recorder
        self._numbers: Final = numbers
        self._moves: Final = moves
        self._lists: Final[dict[object, str]] = {}
        """By prepared list: whose it is."""
        self._metadata: Final[dict[bytes, str]] = {}
        self._handles: Final[dict[object, _Handle]] = {}
        self._released: Final[set[int]] = set()
        self.tells: Final[Mapping[str, Tells]] = {
            "add_remote_agent": self._add,
            "remove_remote_agent": self._remove,
            "prep_xfer_dlist": self._prepare,
            "make_prepped_xfer": self._make_prepped,
            "initialize_xfer": self._initialize,
            "transfer": self._post,
            "check_xfer_state": self._check,
            "release_xfer_handle": self._release,
            "send_notif": self._notify,
        }

    # -- peers

    def _add(self, real: AnyCall, given: Given) -> object:
        metadata = argument(given, 0, "metadata")
        known = self._metadata.get(metadata, "") if isinstance(metadata, bytes) else ""
        try:
            name = real(*given[0], **given[1])
        except BaseException as error:
            self._recorder.peer_added(known, 0, error)
            raise
        peer = _text(name)
        if isinstance(metadata, bytes):
            self._metadata[metadata] = peer
        self._recorder.peer_added(peer, 0, None)
        return name

    def _remove(self, real: AnyCall, given: Given) -> object:
        answer = real(*given[0], **given[1])
        peer = _text(argument(given, 0, "agent"))
        self._recorder.add(lambda seq, t, thread, call: PeerRemoved(seq=seq, t=t, thread=thread, call=call, peer=peer))
        return answer

    def _notify(self, real: AnyCall, given: Given) -> object:
        peer, message = _text(argument(given, 0, "remote_agent_name")), _bytes(argument(given, 1, "notif_msg"))
        try:
            answer = real(*given[0], **given[1])
        except BaseException as error:
            self._recorder.notified(peer, message, error)
            raise
        self._recorder.notified(peer, message, None)
        return answer

    # -- transfers

    def _prepare(self, real: AnyCall, given: Given) -> object:
        dlist = real(*given[0], **given[1])
        self._lists[_key(dlist)] = _text(argument(given, 0, "agent_name"))
        return dlist

    def _make_prepped(self, real: AnyCall, given: Given) -> object:
        remote = argument(given, 3, "remote_xfer_side")
        return self._make(real, given, self._lists.get(_key(remote), _text(remote)), argument(given, 5, "notif_msg"))

    def _initialize(self, real: AnyCall, given: Given) -> object:
        return self._make(real, given, _text(argument(given, 3, "remote_agent")), argument(given, 4, "notif_msg"))

    def _make(self, real: AnyCall, given: Given, peer: str, notification: object) -> object:
        moves = Moves() if self._moves is None else self._moves(*given[0], **given[1])
        message = _bytes(notification)
        place = Place(moves.pages, moves.target, moves.aux, room=self._ledger.room_of(peer, moves.room))
        try:
            handle = real(*given[0], **given[1])
        except BaseException as error:
            self._recorder.made(peer, None, place, message, error)
            raise
        self._recorder.made(peer, self._take(handle), place, message, None)
        return handle

    def _take(self, handle: object) -> int:
        """The number of a new handle. A fake may give the same one again, which must not be under way still."""
        number, key = next(self._numbers), _key(handle)
        before = self._handles.get(key)
        if before is not None and before.open:
            self._ledger.lose()  # which of the two a later call is about, nobody can tell
        self._handles[key] = _Handle(number, True, None if _can_be_dropped(handle) else handle)
        if _can_be_dropped(handle):
            weakref.finalize(handle, self._dropped, key, number).atexit = False
        return number

    def _post(self, real: AnyCall, given: Given) -> object:
        return self._ask(real, given, post=True)

    def _check(self, real: AnyCall, given: Given) -> object:
        return self._ask(real, given, post=False)

    def _ask(self, real: AnyCall, given: Given, *, post: bool) -> object:
        handle = self._found(given)
        try:
            answer = real(*given[0], **given[1])
        except BaseException as error:
            if handle is not None:
                handle.open = False
                (self._recorder.posted if post else self._recorder.checked)(handle.number, None, error)
            raise
        word = _text(answer)
        if handle is not None and not word:
            self._ledger.lose()  # an answer that is no word
        elif handle is not None:
            handle.open = word == "PROC"
            (self._recorder.posted if post else self._recorder.checked)(handle.number, word, None)
        return answer

    def _release(self, real: AnyCall, given: Given) -> object:
        handle = self._found(given)
        try:
            answer = real(*given[0], **given[1])
        except BaseException as error:
            if handle is not None:
                self._recorder.released(handle.number, "call", error)
            raise
        if handle is not None:
            handle.open = False
            self._released.add(handle.number)
            self._recorder.released(handle.number, "call", None)
        return answer

    def _found(self, given: Given) -> _Handle | None:
        found = self._handles.get(_key(argument(given, 0, "handle")))
        if found is None:
            self._ledger.lose()  # it was made before the agent was wrapped, or elsewhere
        return found

    def _dropped(self, key: object, number: int) -> None:
        now = self._handles.get(key)
        if now is not None and now.number == number:
            del self._handles[key]
        if number not in self._released:
            self._recorder.released(number, "last reference", None)


def _can_be_dropped(handle: object) -> bool:
    """Whether the end of its last reference can be seen. Of a number or a text there is no last one."""
    offset: int = getattr(type(handle), "__weakrefoffset__", 0)
    return offset != 0


def _key(handle: object) -> object:
    """What a handle, or a list, is known by: itself where it is a number or a text, else its identity."""
    return (type(handle), handle) if isinstance(handle, (int, str, bytes)) else id(handle)


def _text(name: object) -> str:
    """A name or an answer as text."""
    if isinstance(name, str) and not isinstance(name, Enum):
        return name
    if isinstance(name, bytes):
        return name.decode("utf-8", "backslashreplace")
    return name.name if isinstance(name, Enum) else ""


def _bytes(message: object) -> bytes:
    if isinstance(message, str):
        return message.encode("utf-8", "backslashreplace")
    return message if isinstance(message, bytes) else b""
