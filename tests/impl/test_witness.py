"""What a look at a host shows of its processes, and that whatever is not certain is no evidence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from kvsender_nixl import witness
from kvsender_nixl.sockets import UnreadSockets, unsent_by_the_dead
from kvsender_nixl.wire import Json, fields_of
from kvsender_nixl.witness import (
    ProcessIdentity,
    Question,
    Statement,
    answer,
    gone,
    question_or_statement,
    this_process,
)

CHILD = "import sys; from kvsender_nixl.witness import this_process as p; print(p()); sys.stdout.flush(); input()"


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    me = this_process()
    assert me is not None
    found = witness._state_of(process.pid)
    assert found is not None
    yield process, ProcessIdentity(me.place, process.pid, found[1])
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()


def until(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10.0
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return done()


def test_a_process_that_has_ended_is_gone_reaped_or_not(child: tuple[subprocess.Popen[str], ProcessIdentity]) -> None:
    process, identity = child
    assert gone(identity) is None
    assert answer(Question(identity)) is None
    process.kill()
    assert until(lambda: "is not reaped" in (gone(identity) or ""))
    process.wait(10)
    assert until(lambda: "does not exist any more" in (gone(identity) or ""))
    statement = answer(Question(identity))
    assert statement is not None
    assert str(identity) in statement.evidence


def test_a_number_that_another_process_has_by_now_is_evidence() -> None:
    me = this_process()
    assert me is not None
    assert gone(me) is None
    assert "its number belongs to one that started at tick" in (gone(replace(me, started=me.started - 1)) or "")


def test_whatever_is_not_certain_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()
    assert me is not None
    nobody = replace(me, pid=2**22 - 3)
    assert until(lambda: gone(nobody) is not None)
    assert gone(replace(nobody, place="elsewhere")) is None
    for name, value in (("unsent_by_the_dead", 1), ("unsent_by_the_dead", None), ("_place", None)):
        with monkeypatch.context() as patch:
            patch.setattr(witness, name, lambda value=value: value)
            assert gone(nobody) is None, (name, value)
    with monkeypatch.context() as patch:
        patch.setattr(witness, "_place", lambda: None)
        assert this_process() is None
    with monkeypatch.context() as patch:
        patch.setattr(witness, "_state_of", lambda pid: None)
        assert gone(replace(me, started=1)) is None
        assert this_process() is None


def test_what_is_unread_in_our_sockets_is_seen() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    with listener, theirs, ours:
        theirs.sendall(b"x" * 1000)
        unread = UnreadSockets()
        assert not unread.empty()
        assert ours.recv(999) == b"x" * 999
        assert not unread.empty()
        ours.recv(1)
        assert unread.empty()
        theirs.sendall(b"x")
        assert unread.empty(), "it has been empty since"
        assert not UnreadSockets().empty()
    assert isinstance(unsent_by_the_dead(), int)
    assert os.getpid() > 0


def test_what_processes_say_of_each_other() -> None:
    identity = ProcessIdentity("a place", 7, 9)
    for said in (Question(identity), Statement(identity, "why")):
        assert question_or_statement(fields_of(said.to_bytes())) == said
    assert question_or_statement({"kind": "peer"}) is None
    wrong: tuple[Json, ...] = (
        None,
        7,
        {},
        {"place": "x", "pid": 0, "started": 1},
        {"place": "x", "pid": True, "started": 1},
    )
    for process in wrong:
        with pytest.raises(ValueError, match=r"process is|place is|pid is"):
            question_or_statement({"kind": "gone?", "process": process})
