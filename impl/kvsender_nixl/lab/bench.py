"""What the reference sender costs on this machine, beside the bare NIXL calls that do the same transfers.

Exit codes: 0 every bar is met, 1 one is missed, 2 the command was used wrongly, NIXL is missing, or something could not
be measured.

Machines are shared and noisy, so nothing here is compared across runs: samples of the sender and of the bare calls
alternate in one process, on one agent and one connection. Bars are held against the minima, which noise cannot lower;
the CPU time of the thread stands beside the wall time, because it leaves out the time for which others had the core.

Bare means the best way known from the same page ids: the whole pool prepared once as descriptors, then one broadcast to
int32 indices for each side and ``make_prepped_xfer``, with a notification that was ready before the clock started. What
of it the broadcasts take is in a column of its own.

The other side is a process of its own, this program with ``--peer``. It calls NIXL without a pause, because without a
progress thread a receiver moves bytes only inside calls. Where it is not wanted it is stopped with SIGSTOP.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeAlias, TypeVar

from kvsender_nixl.lab.process import NIXL_ENV, PeerError, PeerProcess, serve

if __name__ == "__main__":
    # Before NIXL and UCX are loaded, which is when they read these.
    os.environ.update(NIXL_ENV)
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]

from kvsender_nixl.agent import ERROR_CLASSES, INSTALL, create_agent

if __name__ == "__main__" and not ERROR_CLASSES:
    # Here and not in main(): where NIXL is missing, what is imported below may be missing as well.
    print(f"bench: this measures NIXL, which is not installed: {INSTALL}", file=sys.stderr)
    sys.exit(2)

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kvsender_nixl.buffers import Layout, Region
from kvsender_nixl.exchange import ChunkNotice, PeerMetadata, TransferInfo
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.sender import KVSender, SenderOptions
from kvsender_nixl.transfers import DONE, PROC
from kvsender_spec.contract import INIT_AGENT, KVPoll, Transport
from kvsender_spec.front import refuse, require_writable

if TYPE_CHECKING:
    from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int32]
    NixlSender: TypeAlias = KVSender[nixl_prepped_dlist_handle, nixl_xfer_handle]
    NixlTransport: TypeAlias = Transport[nixl_prepped_dlist_handle, nixl_xfer_handle]
    Wrap: TypeAlias = "Callable[[NixlSender], MeasuredSender]"

_T = TypeVar("_T")

SEND_RATIO: Final = 1.25
SEND_ALLOWANCE_US: Final = 15.0
"""The bar of send() up to the post: SEND_RATIO times what the bare calls take, and this on top."""
POLL_LIMIT_US: Final = 1.5
POLL_LIMIT_IN_FLIGHT: Final = 64
"""The bar of poll(), with this many chunks in flight."""

REGIONS: Final = 64
"""32 layers of K and V."""
NUM_PAGES: Final = 1024
ITEM_BYTES: Final = 256
"""So few that what is measured is the calls and not the copying."""
PAGES: Final = (1, 16, 128, 512)
ROOM_PAGES: Final = (16, 128)
ROOM_CHUNKS: Final = 4
IN_FLIGHT: Final = (1, 8, POLL_LIMIT_IN_FLIGHT)
CALLS_PER_BATCH: Final = 2000
MIN_SAMPLES: Final = 3
MAX_ASKED: Final = 10_000_000
"""How often a transfer or a room is asked before it counts as hung: some ten seconds."""
LONG_US: Final = 10_000.0
"""Printed without decimals from here on."""
WIDTH: Final = 120
PROGRAM: Final = __spec__.name
"""Not __name__, which is __main__ for one who runs it."""


class Unmeasured(Exception):
    """Something did not go as it must for its time to mean anything."""


NOT_MEASURED: Final[tuple[type[Exception], ...]] = (Unmeasured, PeerError, *ERROR_CLASSES.values())


class MeasuredSender(Protocol):
    """What a measured room needs of its sender. The times are those of send() and poll()."""

    def send(self, kv_indices: Ids) -> None: ...

    def poll(self) -> KVPoll: ...

    def clear(self) -> None: ...


def unwrapped(sender: NixlSender) -> MeasuredSender:
    return sender


# ------------------------------------------------------------------------------------------------------- the numbers


@dataclass(frozen=True, slots=True)
class Effort:
    """For how long each row is sampled, in seconds."""

    row_s: float
    room_row_s: float


FULL: Final = Effort(row_s=1.75, room_row_s=4.0)
QUICK: Final = Effort(row_s=0.05, room_row_s=0.1)


@dataclass(slots=True)
class Series:
    """Samples of one call in nanoseconds: by the wall clock, and CPU time of this thread."""

    wall_ns: list[float] = field(default_factory=list)
    cpu_ns: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], _T], calls: int = 1) -> _T:
        """Take one sample, of a ``call`` that does the thing ``calls`` times, and return what it returned."""
        cpu = time.thread_time_ns()
        wall = time.perf_counter_ns()
        result = call()
        wall = time.perf_counter_ns() - wall
        cpu = time.thread_time_ns() - cpu
        self.wall_ns.append(wall / calls)
        self.cpu_ns.append(cpu / calls)
        return result

    @property
    def min_us(self) -> float:
        return min(self.wall_ns) / 1000

    @property
    def median_us(self) -> float:
        return statistics.median(self.wall_ns) / 1000

    @property
    def cpu_median_us(self) -> float:
        return statistics.median(self.cpu_ns) / 1000

    def to_json(self) -> dict[str, float]:
        return {
            "samples": len(self.wall_ns),
            "min_us": self.min_us,
            "median_us": self.median_us,
            "cpu_min_us": min(self.cpu_ns) / 1000,
            "cpu_median_us": self.cpu_median_us,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """The sender beside the bare calls. ``limit_us`` bounds the sender's minimum; None where there is no bar.

    ``indices`` is what making the bare calls' index arrays from page ids took, which is in no time of theirs.
    """

    name: str
    sender: Series
    bare: Series
    limit_us: float | None = None
    indices: Series | None = None

    @property
    def verdict(self) -> str:
        if self.limit_us is None:
            return ""
        return "ok" if self.sender.min_us <= self.limit_us else "over"

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "sender": self.sender.to_json(),
            "bare": self.bare.to_json(),
            "ratio_min": self.sender.min_us / self.bare.min_us,
            "ratio_cpu_median": self.sender.cpu_median_us / self.bare.cpu_median_us,
            "indices": None if self.indices is None else self.indices.to_json(),
            "limit_us": self.limit_us,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one kind. ``what`` and ``bare`` say what is timed, ``bar`` what is asked of it."""

    key: str
    what: str
    bare: str
    bar: str
    rows: tuple[Row, ...]

    @property
    def missed(self) -> bool:
        return any(row.verdict == "over" for row in self.rows)

    def to_json(self) -> dict[str, object]:
        return {
            "part": self.key,
            "what": self.what,
            "bare": self.bare,
            "bar": self.bar,
            "rows": [row.to_json() for row in self.rows],
        }


def alternate(sender: Callable[[], object], bare: Callable[[], object], seconds: float) -> None:
    """Take samples of both in turn. Who is first changes, so that neither always finds the other's cache."""
    # A collection in the middle of a sample would be most of that sample.
    gc.collect()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        for number in count():
            if number >= MIN_SAMPLES and time.perf_counter() >= until:
                return
            first, second = (sender, bare) if number % 2 else (bare, sender)
            first()
            second()
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------ the two sides


class Pool:
    """The pages of one side: one array, cut into regions."""

    def __init__(self) -> None:
        size = NUM_PAGES * ITEM_BYTES
        self._bytes: Final = np.ones(REGIONS * size, np.uint8)  # written, so that the memory is really there
        start = self._bytes.ctypes.data
        self.layout: Final = Layout(tuple(Region(start + r * size, ITEM_BYTES, NUM_PAGES) for r in range(REGIONS)))


def run_peer(name: str) -> None:
    """Own a pool, answer any request with the ``PeerMetadata``, and drain notifications until this side hangs up."""
    agent, pool = create_agent(name), Pool()
    agent.register_memory(pool.layout.registrations(), pool.layout.mem_type)
    metadata = PeerMetadata(name, agent.get_agent_metadata(), pool.layout)

    def answer(_: None) -> PeerMetadata:
        return metadata

    def idle() -> None:
        agent.get_new_notifs()

    serve(answer, idle, idle_period_s=0.0)


class Unposted:
    """An agent of which all is real but the post: ``transfer`` answers DONE and reaches no NIXL.

    So what comes before the post can be taken by itself, of the sender and of the bare calls alike.
    """

    def __init__(self, agent: nixl_agent) -> None:
        self.name: Final = agent.name
        self.register_memory: Final = agent.register_memory
        self.get_agent_metadata: Final = agent.get_agent_metadata
        self.add_remote_agent: Final = agent.add_remote_agent
        self.remove_remote_agent: Final = agent.remove_remote_agent
        self.check_remote_metadata: Final = agent.check_remote_metadata
        self.prep_xfer_dlist: Final = agent.prep_xfer_dlist
        self.release_dlist_handle: Final = agent.release_dlist_handle
        self.make_prepped_xfer: Final = agent.make_prepped_xfer
        self.check_xfer_state: Final = agent.check_xfer_state
        self.release_xfer_handle: Final = agent.release_xfer_handle
        self.get_new_notifs: Final = agent.get_new_notifs

    def transfer(self, handle: nixl_xfer_handle) -> str:  # noqa: ARG002 - the transport's signature
        return DONE

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """The peer has no part in what is not posted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: page ids of both sides, and a notification for the bare calls."""

    pages: Ids
    target: Ids
    notice: bytes


class Bench:
    """A prefill side on ``transport`` that is connected to ``peer``, and the bare calls on the same transport."""

    def __init__(self, transport: NixlTransport, peer: PeerMetadata, wrap: Wrap) -> None:
        self._pool: Final = Pool()
        self._peer: Final = peer
        self._wrap: Final = wrap
        self._room_ids: Final = count()
        self._prefill: Final = Prefill(transport, self._pool, None, SenderOptions(transfer_timeout_s=600.0))
        self._prefill.register_peer(peer)
        self.transport: Final = transport
        self._local: Final = transport.prep_xfer_dlist(INIT_AGENT, self._pool.layout.rows(), "DRAM")
        self._remote: Final = transport.prep_xfer_dlist(peer.agent_name, peer.kv.rows(), "DRAM")

    def chunks(self, scattered: bool, *sizes: int) -> list[Chunk]:
        """The chunks of one room. Of scattered pages hardly two are neighbours on both sides, so that none merge."""
        total = sum(sizes)
        here = there = np.arange(total, dtype=np.int32)
        if scattered:
            random = np.random.default_rng(total)
            here, there = (random.permutation(NUM_PAGES)[:total].astype(np.int32) for _ in range(2))
        ends = np.cumsum(sizes)[:-1]
        return [
            Chunk(
                pages,
                target,
                ChunkNotice(0, "bench-0", number).to_bytes(),
            )
            for number, (pages, target) in enumerate(zip(np.split(here, ends), np.split(there, ends), strict=True))
        ]

    def open(self, chunks: list[Chunk]) -> MeasuredSender:
        """A sender whose room waits for these chunks."""
        room = next(self._room_ids)
        target = np.concatenate([chunk.target for chunk in chunks])
        self._prefill.add_transfer_info(TransferInfo(room, f"bench-{room}", self._peer.agent_name, target))
        sender = self._prefill.sender(room)
        sender.init(len(target))
        if (answer := sender.poll()) is not KVPoll.WaitingForInput:
            raise Unmeasured(f"a new room says {answer!r}")
        return self._wrap(sender)

    def indices(self, chunk: Chunk) -> tuple[Ids, Ids]:
        """The least that has to be done about page ids before a bare call: one broadcast for each side."""
        return self._pool.layout.indices(chunk.pages), self._peer.kv.indices(chunk.target)

    def make(self, chunk: Chunk) -> nixl_xfer_handle:
        local, remote = self.indices(chunk)
        return self.transport.make_prepped_xfer("WRITE", self._local, local, self._remote, remote, chunk.notice)

    def make_and_post(self, chunk: Chunk) -> tuple[nixl_xfer_handle, str]:
        handle = self.make(chunk)
        return handle, self.transport.transfer(handle)

    def settle(self, handle: nixl_xfer_handle, answer: str) -> None:
        """Wait for a bare transfer, whose post had this ``answer``, and release it."""
        if answer == PROC:
            check = self.transport.check_xfer_state
            for _ in repeat(None, MAX_ASKED):
                answer = check(handle)
                if answer != PROC:
                    break
        if answer != DONE:
            raise Unmeasured(f"a bare transfer says {answer!r}")
        self.transport.release_xfer_handle(handle)


def complete(sender: MeasuredSender) -> None:
    """Poll until the room is complete. As send() does not raise, only this shows that it has worked."""
    answer = KVPoll.Transferring
    for _ in repeat(None, MAX_ASKED):
        answer = sender.poll()
        if answer is not KVPoll.Transferring:
            break
    if answer is not KVPoll.Success:
        raise Unmeasured(f"a room that must be complete says {answer!r}")


# -------------------------------------------------------------------------------------------------- what is measured


def _row_name(scattered: bool, pages: int) -> str:
    return f"{'scattered' if scattered else 'contiguous'}, {pages} page{'s' if pages > 1 else ''}"


def measure_send(bench: Bench, scattered: bool, pages: int, seconds: float, *, barred: bool) -> Row:
    """send() of the first chunk of a room, which is the dearest: it finds the ways to the peers as well.

    One more page concludes the room. That, and all releases, are in nobody's time. The bare calls, too, are made
    beside a new room, which is given up afterwards, so that both find the same caches and the same allocator.
    """
    chunks = bench.chunks(scattered, pages, 1)
    chunk, rest = chunks
    ours, bare, indices = Series(), Series(), Series()

    def sample_sender() -> None:
        sender = bench.open(chunks)
        ours.time(lambda: sender.send(chunk.pages))
        sender.send(rest.pages)
        complete(sender)
        sender.clear()

    def sample_bare() -> None:
        sender = bench.open(chunks)
        bench.settle(*bare.time(lambda: bench.make_and_post(chunk)))
        indices.time(lambda: bench.indices(chunk))
        sender.clear()
        sender.poll()  # only now the room is over

    alternate(sample_sender, sample_bare, seconds)
    limit_us = SEND_RATIO * bare.min_us + SEND_ALLOWANCE_US if barred else None
    return Row(_row_name(scattered, pages), ours, bare, limit_us, indices if barred else None)


def measure_sends(bench: Bench, seconds: float, *, barred: bool) -> tuple[Row, ...]:
    return tuple(
        measure_send(bench, scattered, pages, seconds, barred=barred) for scattered in (False, True) for pages in PAGES
    )


def measure_poll(
    name: str,
    poll: Callable[[], object],
    check: Callable[[], object],
    expected: tuple[object, object],
    seconds: float,
    limit_us: float | None,
) -> Row:
    """Batches of poll() beside batches of check_xfer_state. Both must answer as ``expected``, before and after."""
    ours, bare = Series(), Series()

    def batch(call: Callable[[], object]) -> None:
        for _ in repeat(None, CALLS_PER_BATCH):
            call()

    def require_expected() -> None:
        if (said := (poll(), check())) != expected:
            raise Unmeasured(f"{name}: poll() and check_xfer_state say {said}, expected {expected}")

    require_expected()
    alternate(
        lambda: ours.time(lambda: batch(poll), CALLS_PER_BATCH),
        lambda: bare.time(lambda: batch(check), CALLS_PER_BATCH),
        seconds,
    )
    require_expected()
    return Row(name, ours, bare, limit_us)


def measure_polls(bench: Bench, peer: PeerProcess[None, PeerMetadata], seconds: float) -> tuple[Row, ...]:
    """poll() of rooms whose chunks cannot complete, because the peer is stopped; then of a room that is complete.

    The bare call asks about one transfer in the same state.
    """
    rooms = {number: bench.chunks(True, *repeat(1, number)) for number in IN_FLIGHT}
    senders = {number: bench.open(chunks) for number, chunks in rooms.items()}
    (alone,) = bench.chunks(True, 1)
    rows: list[Row] = []
    peer.stop()
    try:
        handle, answer = bench.make_and_post(alone)
        check = partial(bench.transport.check_xfer_state, handle)
        for number, sender in senders.items():
            for chunk in rooms[number]:
                sender.send(chunk.pages)
        for number, sender in senders.items():
            limit_us = POLL_LIMIT_US if number == POLL_LIMIT_IN_FLIGHT else None
            expected = (KVPoll.Transferring, PROC)
            rows.append(measure_poll(f"{number} in flight", sender.poll, check, expected, seconds, limit_us))
    finally:
        peer.cont()
    for sender in senders.values():
        complete(sender)
    for _ in repeat(None, MAX_ASKED):
        if check() != PROC:
            break
    rows.append(measure_poll("complete", senders[1].poll, check, (KVPoll.Success, DONE), seconds, None))
    bench.settle(handle, answer)
    return tuple(rows)


def measure_room(bench: Bench, scattered: bool, pages: int, seconds: float) -> Row:
    """All chunks of a room, from the first send() to the poll() that says Success."""
    chunks = bench.chunks(scattered, *repeat(pages, ROOM_CHUNKS))
    ours, bare = Series(), Series()

    def send_room(sender: MeasuredSender) -> None:
        for chunk in chunks:
            sender.send(chunk.pages)
        complete(sender)

    def send_bare() -> None:
        # All posts before the first check, as the sender does it: waiting for each in turn would be slower.
        for handle, answer in [bench.make_and_post(chunk) for chunk in chunks]:
            bench.settle(handle, answer)

    def sample_sender() -> None:
        sender = bench.open(chunks)
        ours.time(lambda: send_room(sender))
        sender.clear()

    alternate(sample_sender, lambda: bare.time(send_bare), seconds)
    return Row(_row_name(scattered, pages), ours, bare)


def measure(effort: Effort, wrap: Wrap = unwrapped) -> Iterator[Part]:
    """Measure part after part. ``wrap`` puts something around each sender before it is measured.

    Raises Unmeasured, and PeerError where the peer process does not answer.
    """
    pid = os.getpid()
    with PeerProcess[None, PeerMetadata](PROGRAM, f"bench-decode-{pid}", ["--peer", f"bench-decode-{pid}"]) as peer:
        metadata = peer.request(None)
        unposted = Bench(Unposted(create_agent(f"bench-unposted-{pid}")), metadata, wrap)
        bench = Bench(create_agent(f"bench-prefill-{pid}"), metadata, wrap)
        made = "ids to indices, make_prepped_xfer"
        peer.stop()
        rows = measure_sends(unposted, effort.row_s, barred=True)
        peer.cont()
        bar = f"minimum at most {SEND_RATIO} x bare + {SEND_ALLOWANCE_US:.0f} us"
        yield Part("send", "send() before the post", made, bar, rows)
        rows = measure_sends(bench, effort.row_s, barred=False)
        yield Part("post", "send() with the post", f"{made}, transfer", "none", rows)
        rows = measure_polls(bench, peer, effort.row_s)
        bar = f"minimum at most {POLL_LIMIT_US} us with {POLL_LIMIT_IN_FLIGHT} in flight"
        yield Part("poll", f"poll(), batches of {CALLS_PER_BATCH}", "check_xfer_state of one transfer", bar, rows)
        rows = tuple(
            measure_room(bench, scattered, pages, effort.room_row_s)
            for scattered in (False, True)
            for pages in ROOM_PAGES
        )
        what = f"room of {ROOM_CHUNKS} chunks, first send() to Success"
        yield Part("room", what, f"{made}, transfer, check_xfer_state until DONE, release", "none", rows)


# ------------------------------------------------------------------------------------------------------- the command


def render(part: Part) -> Table:
    places = 3 if part.key == "poll" else 1
    table = Table(
        title=f"{part.what} (us)",
        caption=f"bare: {part.bare}\nbar: {part.bar}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    sides = [f"{side}\n{number}" for side in ("sender", "bare") for number in ("min", "median", "cpu")]
    for name in (*sides, "min\nratio", "cpu\nratio", "bar"):
        table.add_column(name, justify="right", no_wrap=True)
    with_indices = any(row.indices is not None for row in part.rows)
    if with_indices:
        table.add_column("of it ids\nto indices", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in part.rows:
        times = [
            f"{value:.{places if value < LONG_US else 0}f}"
            for series in (row.sender, row.bare)
            for value in (series.min_us, series.median_us, series.cpu_median_us)
        ]
        ratios = (row.sender.min_us / row.bare.min_us, row.sender.cpu_median_us / row.bare.cpu_median_us)
        limit = "-" if row.limit_us is None else f"{row.limit_us:.{places}f}"
        style = {"ok": "green", "over": "bold red"}.get(row.verdict, "")
        indices = [] if row.indices is None else [f"{row.indices.min_us:.{places}f}"]
        numbers = (*times, *(f"{ratio:.2f}" for ratio in ratios), limit, *indices)
        table.add_row(row.name, *numbers, row.verdict, style=style)
    return table


def to_json(parts: list[Part]) -> str:
    machine = {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "nixl": version("nixl"),
        "ucx": {name: value for name, value in os.environ.items() if name.startswith("UCX_")},
    }
    geometry = {"regions": REGIONS, "pages": NUM_PAGES, "item_bytes": ITEM_BYTES}
    verdict = "over" if any(part.missed for part in parts) else "ok"
    body = {**machine, **geometry, "verdict": verdict, "parts": [part.to_json() for part in parts]}
    return json.dumps(body, indent=2) + "\n"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds, for a first look")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the numbers there as well")] = None,
    peer: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the reference sender beside bare NIXL. Exits with 1 when a bar is missed."""
    if peer:
        run_peer(peer)
        return
    require_writable(json_path, "--json", "bench")
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)  # of a pipe it is 80, and a cut number is worse than a long line
    parts: list[Part] = []
    try:
        for part in measure(QUICK if quick else FULL):
            parts.append(part)
            console.print(render(part))
    except NOT_MEASURED as error:
        raise refuse(f"not measured: {error!r}", "bench") from error
    if json_path is not None:
        json_path.write_text(to_json(parts), encoding="utf-8")
    missed = [f"{part.key}: {row.name}" for part in parts for row in part.rows if row.verdict == "over"]
    console.print(f"missed bars: {'; '.join(missed)}" if missed else "every bar is met")
    raise typer.Exit(1 if missed else 0)


if __name__ == "__main__":
    app()
