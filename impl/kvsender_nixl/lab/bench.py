"""What the reference sender and reader cost on this machine, beside the bare NIXL calls that do the same transfers.

Exit codes: 0 every bar is met, 1 one is missed, 2 the command was used wrongly, NIXL is missing, or something could not
be measured.

Samples of ours and of the bare calls alternate, on one agent and one connection. What of the bare calls the
broadcasts of page ids take is in a column of its own.

The other side is a process of its own, this program with ``--peer``. It calls NIXL without a pause, because without a
progress thread a receiver moves bytes only inside calls. Where it is not wanted it is stopped with SIGSTOP.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Annotated, Final

from kvsender_nixl.lab.process import NIXL_ENV, PeerError, PeerProcess

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

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kvsender_nixl.exchange import PeerMetadata
from kvsender_nixl.lab import bench_sides as sides
from kvsender_nixl.lab.bench_sides import MAX_ASKED, Bench, Measured, Unmeasured, complete
from kvsender_nixl.lab.samples import Part, Row, Series, alternate
from kvsender_nixl.transfers import DONE, PROC
from kvsender_spec.contract import KVPoll, Operation
from kvsender_spec.front import refuse, require_writable

SEND_RATIO: Final = 1.25
SEND_ALLOWANCE_US: Final = 15.0
"""The bar of send() and read() up to the post: SEND_RATIO times what the bare calls take, and this on top."""
POLL_LIMIT_US: Final = 1.5
POLL_LIMIT_IN_FLIGHT: Final = 64
"""The bar of poll(), with this many chunks in flight."""

PAGES: Final = (1, 16, 128, 512)
READ_PAGES: Final = (1, 512)
ROOM_PAGES: Final = (16, 128)
ROOM_CHUNKS: Final = 4
IN_FLIGHT: Final = (1, 8, POLL_LIMIT_IN_FLIGHT)
CALLS_PER_BATCH: Final = 2000
LONG_US: Final = 10_000.0
"""Printed without decimals from here on."""
WIDTH: Final = 120
PROGRAM: Final = __spec__.name
"""Not __name__, which is __main__ for one who runs it."""
NOT_MEASURED: Final[tuple[type[Exception], ...]] = (Unmeasured, PeerError, *ERROR_CLASSES.values())


@dataclass(frozen=True, slots=True)
class Effort:
    """For how long each row is sampled, in seconds."""

    row_s: float
    room_row_s: float


FULL: Final = Effort(row_s=1.75, room_row_s=4.0)
QUICK: Final = Effort(row_s=0.05, room_row_s=0.1)


def _row_name(scattered: bool, pages: int) -> str:
    return f"{'scattered' if scattered else 'contiguous'}, {pages} page{'s' if pages > 1 else ''}"


def measure_send(bench: Bench, scattered: bool, pages: int, seconds: float, *, barred: bool) -> Row:
    """send() or read() of the first chunk of a room, which is the dearest: it finds the ways to the peers as well.

    One more page concludes the room. That, and all releases, are in nobody's time. The bare calls, too, are made
    beside a new room, which is given up afterwards, so that both find the same caches and the same allocator.
    """
    chunks = bench.chunks(scattered, pages, 1)
    chunk, rest = chunks
    ours, bare, indices = Series(), Series(), Series()

    def sample_sender() -> None:
        sender = bench.open(chunks)
        ours.time(lambda: sender.hand_over(chunk.pages))
        sender.hand_over(rest.pages)
        complete(sender)
        sender.clear()

    def sample_bare() -> None:
        sender = bench.open(chunks)
        bench.settle(*bare.time(lambda: bench.make_and_post(chunk)))
        indices.time(lambda: bench.indices(chunk))
        sender.clear()
        sender.poll()  # only now the room is over

    alternate(sample_sender, sample_bare, seconds)
    name, limit_us = _row_name(scattered, pages), SEND_RATIO * bare.times.min_us + SEND_ALLOWANCE_US
    if not barred:
        return Row.of(name, ours.times, bare.times)
    return Row.of(name, ours.times, bare.times, limit_us, indices.times)


def measure_sends(bench: Bench, seconds: float, *, barred: bool) -> tuple[Row, ...]:
    return tuple(
        measure_send(bench, scattered, pages, seconds, barred=barred) for scattered in (False, True) for pages in PAGES
    )


def measure_reads(bench: Bench, seconds: float) -> tuple[Row, ...]:
    return tuple(measure_send(bench, False, pages, seconds, barred=True) for pages in READ_PAGES)


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
    return Row.of(name, ours.times, bare.times, limit_us)


def measure_polls(
    bench: Bench, peer: PeerProcess[None, PeerMetadata], seconds: float, in_flight: Sequence[int] = IN_FLIGHT
) -> tuple[Row, ...]:
    """poll() of rooms whose chunks cannot complete, because the peer is stopped; then of a room that is complete.

    The bare call asks about one transfer in the same state.
    """
    rooms = {number: bench.chunks(True, *repeat(1, number)) for number in in_flight}
    senders = {number: bench.open(chunks) for number, chunks in rooms.items()}
    (alone,) = bench.chunks(True, 1)
    rows: list[Row] = []
    peer.stop()
    try:
        handle, answer = bench.make_and_post(alone)
        check = partial(bench.transport.check_xfer_state, handle)
        for number, sender in senders.items():
            for chunk in rooms[number]:
                sender.hand_over(chunk.pages)
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
    rows.append(measure_poll("complete", senders[in_flight[0]].poll, check, (KVPoll.Success, DONE), seconds, None))
    bench.settle(handle, answer)
    return tuple(rows)


def measure_room(bench: Bench, scattered: bool, pages: int, seconds: float) -> Row:
    """All chunks of a room, from the first send() to the poll() that says Success."""
    chunks = bench.chunks(scattered, *repeat(pages, ROOM_CHUNKS))
    ours, bare = Series(), Series()

    def send_room(sender: Measured) -> None:
        for chunk in chunks:
            sender.hand_over(chunk.pages)
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
    return Row.of(_row_name(scattered, pages), ours.times, bare.times)


def measure(effort: Effort, wrap: sides.Wrap = sides.unwrapped) -> Iterator[Part]:
    """Measure part after part. ``wrap`` puts something around what serves each room before it is measured.

    Raises Unmeasured, and PeerError where the peer process does not answer.
    """
    pid = os.getpid()
    name = f"bench-decode-{pid}"
    with PeerProcess[None, PeerMetadata](PROGRAM, name, ["--peer", name]) as peer:
        metadata = peer.request(None)

        def unposted(operation: Operation) -> Bench:
            """All is real but the post. It is made while the peer answers, and measured while it does not."""
            agent = create_agent(f"bench-unposted-{operation}-{pid}")
            return Bench(sides.Unposted(agent), metadata, wrap, operation)

        writes, reads = unposted("WRITE"), unposted("READ")
        bench = Bench(create_agent(f"bench-prefill-{pid}"), metadata, wrap, "WRITE")
        reading = Bench(create_agent(f"bench-reader-{pid}"), metadata, wrap, "READ")
        made = "ids to indices, make_prepped_xfer"
        before_post = f"minimum at most {SEND_RATIO} x bare + {SEND_ALLOWANCE_US:.0f} us"
        in_flight = f"minimum at most {POLL_LIMIT_US} us with {POLL_LIMIT_IN_FLIGHT} in flight"
        check = "check_xfer_state of one transfer"
        peer.stop()
        rows = measure_sends(writes, effort.row_s, barred=True)
        read_rows = measure_reads(reads, effort.row_s)
        peer.cont()
        yield Part("send", "send() before the post", made, before_post, rows)
        rows = measure_sends(bench, effort.row_s, barred=False)
        yield Part("post", "send() with the post", f"{made}, transfer", "none", rows)
        rows = measure_polls(bench, peer, effort.row_s)
        yield Part("poll", f"poll(), batches of {CALLS_PER_BATCH}", check, in_flight, rows)
        rows = tuple(
            measure_room(bench, scattered, pages, effort.room_row_s)
            for scattered in (False, True)
            for pages in ROOM_PAGES
        )
        what = f"room of {ROOM_CHUNKS} chunks, first send() to Success"
        yield Part("room", what, f"{made}, transfer, check_xfer_state until DONE, release", "none", rows)
        yield Part("read", "the reader's read() before the post", made, before_post, read_rows)
        rows = measure_polls(reading, peer, effort.row_s, (POLL_LIMIT_IN_FLIGHT,))
        yield Part("read-poll", f"the reader's poll(), batches of {CALLS_PER_BATCH}", check, in_flight, rows)


# ------------------------------------------------------------------------------------------------------- the command


def render(part: Part) -> Table:
    places = 3 if part.key.endswith("poll") else 1
    table = Table(
        title=f"{part.what} (us)",
        caption=f"bare: {part.bare}\nbar: {part.bar}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    sides = [f"{side}\n{number}" for side in ("ours", "bare") for number in ("min", "median", "cpu")]
    for name in (*sides, "min\nratio", "cpu\nratio", "bar"):
        table.add_column(name, justify="right", no_wrap=True)
    with_indices = any(row.indices is not None for row in part.rows)
    if with_indices:
        table.add_column("of it ids\nto indices", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in part.rows:
        times = [
            f"{value:.{places if value < LONG_US else 0}f}"
            for side in (row.ours, row.bare)
            for value in (side.min_us, side.median_us, side.cpu_median_us)
        ]
        limit = "-" if row.limit_us is None else f"{row.limit_us:.{places}f}"
        style = {"ok": "green", "over": "bold red"}.get(row.verdict, "")
        indices = [] if row.indices is None else [f"{row.indices.min_us:.{places}f}"]
        numbers = (*times, f"{row.ratio_min:.2f}", f"{row.ratio_cpu_median:.2f}", limit, *indices)
        table.add_row(row.name, *numbers, row.verdict, style=style)
    return table


def to_json(parts: Sequence[Part]) -> bytes:
    body = {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "nixl": version("nixl"),
        "ucx": {name: value for name, value in os.environ.items() if name.startswith("UCX_")},
        "regions": sides.REGIONS,
        "pages": sides.NUM_PAGES,
        "item_bytes": sides.ITEM_BYTES,
        "verdict": "over" if any(part.missed for part in parts) else "ok",
        "parts": parts,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds, for a first look")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the numbers there as well")] = None,
    peer: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the reference sender and reader beside bare NIXL. Exits with 1 when a bar is missed."""
    if peer:
        sides.run_peer(peer)
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
        json_path.write_bytes(to_json(parts))
    missed = [name for part in parts for name in part.missed]
    console.print(f"missed bars: {'; '.join(missed)}" if missed else "every bar is met")
    raise typer.Exit(1 if missed else 0)


if __name__ == "__main__":
    app()
