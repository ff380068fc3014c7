"""The command ``python -m kvsender_nixl.lab.reads``: does an error of a transfer end the reading of its source pages?

64 MiB are posted over tcp to a peer that takes nothing. Then the transfer ends for the sender, by an error or by a
release in flight; the source is refilled, as its caller might do; the peer goes on, and says whose bytes have landed.
Where bytes of the refill land, the pages were still being read. It tells whether ``SenderOptions.error_ends_reads`` may
be set on a fabric. Exit codes: 0 it could be measured, 2 something is not installed, 3 it could not be measured.
"""

from __future__ import annotations

import importlib.util
import os
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from kvsender_nixl.lab.memory import PAGE_BYTES, REQUEST, Arrays, Memory, Tally
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import NIXL_ENV, until
from kvsender_spec.contract import INIT_AGENT

if TYPE_CHECKING:
    from nixl._api import nixl_agent, nixl_xfer_handle

    from kvsender_nixl.lab.memory import Ids

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

NUM_PAGES: Final = 64 * 2**20 // PAGE_BYTES
ENV: Final = {**NIXL_ENV, "UCX_TCP_USER_TIMEOUT": "2s"}
_LIMIT_S: Final = 20.0
_IDLE_S: Final = 1.0
"""Nothing more lands when nothing has landed for so long."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What one round has shown. ``ended`` is how the transfer ended for the sender, and when."""

    ended: str
    before: Tally
    """When the peer goes on; nothing of the refill can be there."""
    after: Tally


class Round:
    """One transfer of everything, by a raw agent to a process of its own."""

    def __init__(self, number: int) -> None:
        self.peer: Final = LabPeer(number, env=ENV, num_pages=NUM_PAGES)
        self.memory: Final = Memory.filled(number, REQUEST, NUM_PAGES)
        self._pages: Final = np.arange(NUM_PAGES, dtype=np.int32)

    def post(self, agent: nixl_agent) -> nixl_xfer_handle:
        """Make the transfer of everything, to a peer that is connected and takes nothing from now on."""
        pool = Arrays(self.memory.regions).layout
        agent.register_memory(pool.registrations(), pool.mem_type)
        there = self.peer.metadata
        agent.add_remote_agent(there.agent_metadata)
        local = agent.prep_xfer_dlist(INIT_AGENT, pool.rows(), pool.mem_type)
        remote = agent.prep_xfer_dlist(there.agent_name, there.kv.rows(), there.kv.mem_type)

        def make(pages: Ids) -> nixl_xfer_handle:
            return agent.make_prepped_xfer("WRITE", local, pool.indices(pages), remote, there.kv.indices(pages))

        # The first transfer makes the connection, and the peer has to take part in that.
        first = make(self._pages[:1])
        agent.transfer(first)
        until("the first page", lambda: agent.check_xfer_state(first) == "DONE", _LIMIT_S)
        self.peer.remote.reset()
        self.peer.remote.hold(True)
        return make(self._pages)

    def refill(self) -> None:
        self.memory.reuse(range(NUM_PAGES))

    def landed(self) -> Tally:
        return self.peer.decode.count(range(NUM_PAGES))

    def settle(self, agent: nixl_agent) -> Tally:
        """Both sides go on until nothing lands any more."""
        last, since = self.landed(), time.monotonic()
        deadline = since + _LIMIT_S
        while time.monotonic() - since < _IDLE_S:
            if time.monotonic() > deadline:
                raise TimeoutError(f"bytes went on landing for {_LIMIT_S} s")
            # Counting takes long and moves nothing, so each side is called often in between.
            for _ in range(50):
                agent.get_new_notifs()
                self.peer.remote.progress(10)
            now = self.landed()
            if now != last:
                last, since = now, time.monotonic()
        return last


def by_error(this: Round, agent: nixl_agent, handle: nixl_xfer_handle) -> str:
    """The peer is stopped until the kernel gives the connection up."""
    this.peer.process.stop()
    began = time.monotonic()
    state, error = agent.transfer(handle), ""

    def over() -> bool:
        nonlocal error
        try:
            agent.check_xfer_state(handle)
        except Exception as caught:
            error = type(caught).__name__
        return error != ""

    until(f"an error (the post answered {state})", over, _LIMIT_S)
    return f"{error} after {time.monotonic() - began:.1f} s"


def by_release(_this: Round, agent: nixl_agent, handle: nixl_xfer_handle) -> str:
    """The handle is released in flight. The reference sender never does that (KS-4.2)."""
    state = agent.transfer(handle)
    for _ in range(10):
        state = agent.check_xfer_state(handle)
    agent.release_xfer_handle(handle)
    return f"released while {state}"


CASES: Final = {"error": by_error, "release": by_release}
"""How the transfer ends for its sender; each says in words what it saw."""


def measure(case: str, number: int, agent: nixl_agent) -> Reads:
    """End one transfer, refill its source, and let the peer go on."""
    this = Round(number)
    with closing(this.peer):
        this.peer.begin(f"{case}{number}")
        ended = CASES[case](this, agent, this.post(agent))
        this.refill()
        this.peer.process.cont()
        return Reads(ended, this.landed(), this.settle(agent))


@app.command()
def reads(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="how often each case is measured")] = 5,
) -> None:
    """Count whose bytes land after a transfer has ended for its sender."""
    if importlib.util.find_spec("nixl") is None:
        Console(stderr=True).print("reads: nixl is not installed; make install installs it", markup=False)
        raise typer.Exit(2)
    os.environ.update(ENV)  # before the first import of nixl, which reads some of it
    from kvsender_nixl.agent import create_agent

    console = Console(highlight=False)
    table = Table(title="bytes at the peer after the source was refilled, of 67108864", title_justify="left")
    for heading in ("case", "ended by"):
        table.add_column(heading, no_wrap=True)
    for heading in ("old", "of these late", "new"):
        table.add_column(heading, justify="right")
    leaks = dict.fromkeys(CASES, 0)
    for name in CASES:
        for number in range(rounds):
            try:
                seen = measure(name, number, create_agent(f"reads-{name}{number}"))
            except Exception as error:
                console.print(f"reads: {name} {number} could not be measured: {type(error).__name__}: {error}")
                raise typer.Exit(3) from error
            late = seen.after.request - seen.before.request
            leaks[name] += seen.after.next_request > 0
            table.add_row(
                f"{name} {number}", seen.ended, str(seen.after.request), str(late), str(seen.after.next_request)
            )
    console.print(table)
    console.print(
        f"bytes of the refill landed after {leaks['error']} of {rounds} errors and {leaks['release']} of {rounds}"
        " releases in flight"
    )


if __name__ == "__main__":
    app()
