"""What stands in place of the world: queues that know their reader, sockets without a network, loops, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import TypeVar

import pytest

from kvsender_connectors.notifications import SEPARATOR, read_chunk, read_status
from kvsender_connectors.seams import ControlSocket, Inbox, Interval, Seams
from kvsender_spec.kit.adapter import ManualClock, Notification, NotificationKind

_T = TypeVar("_T")


def attribute(seams: Seams, name: str) -> object:
    return seams.attributes(SimpleNamespace(PUSH=8), SimpleNamespace(Session=object))[name]


def reader(inbox: Inbox[str], read: list[str]) -> threading.Thread:
    def loop() -> None:
        with suppress(SystemExit):  # pytest takes it for an accident
            while True:
                read.append(inbox.get())

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def test_an_inbox_is_busy_until_its_reader_waits_again_and_ends_it_when_closed() -> None:
    inbox: Inbox[str] = Inbox()
    read: list[str] = []
    thread = reader(inbox, read)
    for item in ("a", "b"):
        inbox.put(item)
    assert inbox.wait_until_read()
    assert (read, inbox.busy) == (["a", "b"], False)
    inbox.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_dead_reader_is_noticed() -> None:
    socket = ControlSocket()

    def dies() -> None:
        socket.recv_multipart()

    thread = threading.Thread(target=dies)
    thread.start()
    assert not socket.deliver([b"x"]), "it has read, and is gone"
    assert not socket.inbox.busy
    assert not socket.deliver([b"y"])


def test_a_loop_goes_round_once_for_each_ring() -> None:
    interval = Interval()
    rounds: list[int] = []

    def loop() -> None:
        while not interval.wait(30.0):
            rounds.append(len(rounds))

    interval.ring()
    assert rounds == [], "nobody waits yet"
    thread = threading.Thread(target=loop)
    thread.start()
    while not interval._begun:
        pass
    interval.ring()
    interval.ring()
    assert rounds == [0, 1]
    interval.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_release_gets_the_kits_clock_and_threads_that_die_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    seams = Seams(clock, lambda endpoint, parts: None)
    time = attribute(seams, "time")
    assert isinstance(time, object)
    clock.now = 12.0
    module = ModuleType("release")
    module.__dict__.update(seams.attributes(SimpleNamespace(), SimpleNamespace()))
    program = """
time.sleep(1000)
seen = (time.time(), time.monotonic(), time.perf_counter())

def fails():
    raise RuntimeError("noise")

threading.Thread(target=fails).start()
lock = threading.Lock()
queue = FastQueue()
status = requests.put("http://nowhere", json={}, timeout=5).status_code
port, socket = get_zmq_socket_on_host(zmq.Context(), 7, host="127.0.0.1")
"""
    exec(compile(program, "release", "exec"), module.__dict__)
    (thread,) = seams.threads
    thread.join(5)
    assert thread.daemon
    assert capfd.readouterr().err == ""
    assert module.__dict__["seen"] == (12.0, 12.0, 12.0)
    assert module.__dict__["status"] == 200
    assert module.__dict__["socket"] is seams.control
    assert seams.queues == [module.__dict__["queue"]]


def test_what_is_sent_to_a_peer_is_delivered() -> None:
    sent: list[tuple[str, Sequence[bytes]]] = []
    seams = Seams(ManualClock(), lambda endpoint, parts: sent.append((endpoint, parts)))
    zmq = attribute(seams, "zmq")
    make: Callable[[], SimpleNamespace] = getattr(zmq, "Context")  # noqa: B009
    socket = make().socket(8)
    socket.connect("tcp://127.0.0.1:30001")
    socket.send_multipart([b"a", b"b"])
    assert sent == [("tcp://127.0.0.1:30001", [b"a", b"b"])]


@pytest.mark.parametrize(
    ("parts", "notification"),
    [
        ((b"KV_STATUS", b"7", b"0", b"0", b"gone"), Notification(NotificationKind.FAILURE, 7, reason="gone")),
        ((b"KV_STATUS", b"7", b"4", b"0", b""), Notification(NotificationKind.SUCCESS, 7)),
        ((b"7", b"0", b"0"), Notification(NotificationKind.FAILURE, 7)),
        ((b"7", b"2", b"0"), None),
        ((b"7_kv_0_1_0",), None),
        ((b"ABORT_ACK", b"7", b"0"), None),
    ],
)
def test_status_messages(parts: tuple[bytes, ...], notification: Notification | None) -> None:
    assert read_status(SEPARATOR.join(parts)) == notification


def test_chunk_messages() -> None:
    assert read_chunk(b"7_kv_0_1_0") == Notification(NotificationKind.PROGRESS, 7)
    assert read_chunk(b"7_aux") == Notification(NotificationKind.PROGRESS, 7)
    assert read_chunk(b"hello") is None
