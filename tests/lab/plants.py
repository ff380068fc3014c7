"""Mistakes that a test plants, between the subject and its transport or into the side that makes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from kvsender_nixl.agent import ERROR_CLASSES
from kvsender_nixl.notifications import FailureNotification, parse_notification
from kvsender_spec.contract import KVPoll, KVTransferError
from kvsender_spec.history.recording_agent import ReleasedHandle, Through


class EarlySuccess(Through[Any, Any]):
    """What still runs is called DONE, and is kept when it is released."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.kept: list[Any] = []

    def check_xfer_state(self, handle: Any) -> str:
        super().check_xfer_state(handle)
        return "DONE"

    def release_xfer_handle(self, handle: Any) -> None:
        self.kept.append(handle)


class EarlyData(EarlySuccess):
    """The same, of what was made before the first such word: a reader's data, and not the stamps that it reads next."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.lied = False
        self.later: list[Any] = []

    def make_prepped_xfer(self, *arguments: Any, **named: Any) -> Any:
        handle = super().make_prepped_xfer(*arguments, **named)
        if self.lied:
            self.later.append(handle)
        return handle

    def check_xfer_state(self, handle: Any) -> str:
        if any(handle is one for one in self.later):
            return self.inner.check_xfer_state(handle)
        self.lied = True
        return super().check_xfer_state(handle)


class DeafToDisconnects(Through[Any, Any]):
    def check_xfer_state(self, handle: Any) -> str:
        try:
            return super().check_xfer_state(handle)
        except ERROR_CLASSES["nixlRemoteDisconnectError"]:
            return "PROC"


class MuteAboutFailures(Through[Any, Any]):
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        if not isinstance(parse_notification(notif_msg), FailureNotification):
            super().send_notif(remote_agent_name, notif_msg)


class NextPage(Through[Any, Any]):
    """The last descriptor of each transfer of pages goes to the page beside the right one."""

    def make_prepped_xfer(
        self,
        operation: Any,
        local_xfer_side: Any,
        local_indices: Any,
        remote_xfer_side: Any,
        remote_indices: Any,
        *a: Any,
    ) -> Any:
        bent = remote_indices.copy()
        bent[-1] ^= 1
        return super().make_prepped_xfer(operation, local_xfer_side, local_indices, remote_xfer_side, bent, *a)


class FalseAlarm(Through[Any, Any]):
    """What still runs is called failed, so that the sender releases it in flight."""

    def check_xfer_state(self, handle: Any) -> str:
        state = super().check_xfer_state(handle)
        if state == "PROC":
            raise ERROR_CLASSES["nixlBackendError"]("a false alarm")
        return state


class Reuser(Through[Any, Any]):
    """A released handle is asked about once more, and nobody sees what is raised."""

    def release_xfer_handle(self, handle: Any) -> None:
        super().release_xfer_handle(handle)
        with suppress(ReleasedHandle):
            super().check_xfer_state(handle)


def letting_escape(prefill: Any) -> None:
    """An error of connecting to a peer leaves register_peer()."""
    connect = prefill._peers._open

    def open_(metadata: Any) -> Any:
        try:
            return connect(metadata)
        except Exception as error:
            raised.append(error)
            raise

    def register_peer(metadata: Any) -> None:
        register(metadata)
        if raised:
            raise raised.pop()

    raised: list[Exception] = []
    register = prefill.register_peer
    prefill._peers._open = open_
    prefill.register_peer = register_peer


def of_each(maker: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """A plant in everything that this method of a side makes."""

    def decorate(change: Callable[[Any], None]) -> Callable[[Any], None]:
        def plant(front: Any) -> None:
            make = getattr(front, maker)

            def changed(room: int) -> Any:
                made = make(room)
                change(made)
                return made

            setattr(front, maker, changed)

        return plant

    return decorate


@of_each("sender")
def endless(sender: Any) -> None:
    """poll() never answers a terminal value."""
    poll = sender.poll

    def never() -> KVPoll:
        answer: KVPoll = poll()
        return KVPoll.Transferring if answer.terminal else answer

    sender.poll = never


@of_each("sender")
def escaping(sender: Any) -> None:
    """poll() raises the first cause once, instead of answering Failed."""
    poll = sender.poll
    raised: list[Exception] = []

    def raise_once() -> KVPoll:
        answer: KVPoll = poll()
        if answer is KVPoll.Failed and not raised:
            with pytest.raises(KVTransferError) as caught:
                sender.failure_exception()
            cause = caught.value.__cause__
            assert isinstance(cause, Exception)
            raised.append(cause)
            raise cause
        return answer

    sender.poll = raise_once


def forgetful(prefill: Any) -> None:
    """The prefill side says that every page is free."""
    prefill.quarantined_pages = frozenset


@of_each("sender")
def two_faced(sender: Any) -> None:
    """The sender sends a failure notification after a success."""
    complete = sender._complete

    def tell_twice() -> Any:
        answer = complete()
        for info in sender._room.infos.values():
            notification = FailureNotification(info.room, info.token, True, "never mind")
            sender._side.transport.send_notif(info.agent_name, notification.to_bytes())
        return answer

    sender._complete = tell_twice


@of_each("sender")
def relapsing(sender: Any) -> None:
    """poll() answers Success after it has answered Failed."""
    poll = sender.poll
    answers: list[KVPoll] = []

    def relapse() -> KVPoll:
        answers.append(poll())
        return KVPoll.Success if answers[:-1] and answers[-2] is KVPoll.Failed else answers[-1]

    sender.poll = relapse


class SwappedPages(Through[Any, Any]):
    """The content of a transfer's first two pages is put in each other's place. The stamps stay right."""

    pool: Any = None

    def prep_xfer_dlist(self, agent_name: str, *a: Any) -> Any:
        dlist = super().prep_xfer_dlist(agent_name, *a)
        if self.pool is None:  # that of its own pages is the first one
            self.pool = dlist
        return dlist

    def make_prepped_xfer(self, operation: Any, local_xfer_side: Any, local_indices: Any, *a: Any) -> Any:
        bent = local_indices.copy()
        if local_xfer_side is self.pool:
            bent[:2] = local_indices[:2][::-1]
        return super().make_prepped_xfer(operation, local_xfer_side, bent, *a)


class MuteAtTheEnd(Through[Any, Any]):
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """The holder is told nothing."""


@of_each("reader")
def blind_to_stamps(reader: Any) -> None:
    """The reader never looks at the stamps of what it has read."""
    reader._concluded = reader._complete
