"""The command ``python -m kvsender_nixl.lab.leases``: what becomes of READs whose lease ends under them.

A holder process grants pages, and the lease ends before, during or after the READ, at a random time. Then the holder
does one of three things with the pages (``Means``), and what the reader has accepted, and what has reached it, is
counted byte by byte, over tcp and over shared memory. ``--page`` writes the figures as a page of docs/records.

Exit codes: 0 nothing foreign was accepted, and nothing foreign arrived where it must not; 1 something was, or did; 2
something is not installed; 3 it could not be measured.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

from kvsender_nixl.lab.process import NIXL_ENV

if __name__ == "__main__":
    # Before NIXL is loaded, which is when it reads some of them.
    os.environ.update(NIXL_ENV)
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]

import typer
from rich.console import Console

from kvsender_nixl.agent import create_agent
from kvsender_nixl.lab.lease_rounds import READ_PAGES, TLS, LeaseRounds, Rates, Transport
from kvsender_nixl.lab.lease_words import PAGE_BYTES, Means
from kvsender_spec.front import require_writable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EARLIER: Final[dict[Transport, tuple[str, str]]] = {"tcp": ("122 of 137", "0 of 11"), "shm": ("184 of 599", "0 of 603")}
"""READs with foreign bytes of those accepted, by a reader that never looks and by one that reads the stamps after its
data. Measured before there was a reference holder: 64 pages of 64 KiB refilled at random, READs of 8 (2026-11-28)."""
HEADINGS: Final = (
    *("over", "means", "READs", "ended", "right", "foreign"),
    *("refused", "arrived", "MiB", "zeros", "kept", "aside"),
)
_WORDS: Final = """\
*ended*: leases that were over before the READ was. *right*, *foreign*: READs that the reader accepted, with what was
granted and with anything else. *refused*: READs that it did not accept, because of their stamps. *arrived*: READs with
bytes of another prompt, accepted or not, and *MiB* of them; a reader that looks at no stamps accepts all of these.
*zeros*: READs with zeros of a page that was taken away. *kept*: how often a refill was refused. *aside*: READs of
another lease over the same connection, one after each of these, that were right.

- **hold**: the holder keeps the pages until the reader is finished, and asks to refill them all the time; each time it
  is refused.
- **stamps**: the holder believes, wrongly, that the reader's process is gone, and refills the pages under its READ.
  Only the stamps are left. A reader that does not look at them would have accepted every READ in which foreign bytes
  arrived.
- **remap**: the pages' addresses are taken away when the lease ends, and the pages are refilled through another
  mapping. What arrives is what was granted, and zeros; the stamps tell a reader that it has read zeros.

The reader's clock stands still, as if its process had been stopped: it sends no heartbeats, has no deadline, and hears
that its lease is lost only after its READ.
"""
_UNKNOWN: Final = """\
## What this does not say

Both transports copy host memory. What an end of a lease, and what remapping, comes to over RDMA and for CUDA memory was
not measured with this holder: it is unknown. Remapping is not possible for CUDA memory at all, and should not be used
over RDMA (`kvsender_nixl/remapped.py` says why). Stamps need that a page's content is complete before the second bump,
and on a GPU that is when its stream has come to the end of the refill.
"""


def row(transport: Transport, means: Means, rates: Rates) -> list[str]:
    return [
        transport,
        means.value,
        str(rates.reads),
        str(rates.ended),
        str(rates.accepted - rates.accepted_foreign),
        str(rates.accepted_foreign),
        str(rates.refused),
        str(rates.foreign),
        f"{rates.foreign_bytes / 2**20:.1f}",
        str(rates.zeros),
        str(rates.refills_refused),
        str(rates.aside_right),
    ]


def broken(means: Means, rates: Rates) -> str:
    """What must not have happened, or the empty string."""
    if rates.accepted_foreign:
        return f"{rates.accepted_foreign} READs were accepted with bytes that were not granted"
    if means is not Means.STAMPS and rates.foreign_bytes:
        return f"{rates.foreign_bytes} foreign bytes reached the reader"
    if means is Means.HOLD and rates.refused:
        return f"{rates.refused} READs of pages that were kept were refused"
    if rates.aside_right < rates.aside:
        return f"{rates.aside - rates.aside_right} READs of another lease went wrong"
    return ""


def page(rows: list[list[str]], seed: int) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows)]
    earlier = ["| transport | never looks | stamps after the data |", "| --- | --- | --- |"]
    earlier += [f"| {transport} | {never} | {after} |" for transport, (never, after) in EARLIER.items()]
    where = f"seed {seed}; {os.cpu_count()} CPUs, Linux {platform.release()}, nixl {version('nixl')}"
    return "\n".join(
        [
            "# Leases that end under a READ\n",
            "<!-- Written by `make leases`; do not edit. -->\n",
            f"*{time.strftime('%Y-%m-%d')}; {where}; READs of {READ_PAGES} pages of {PAGE_BYTES // 1024} KiB.*\n",
            "What the reference holder and the reference reader do on real NIXL, between two processes, when a lease",
            "ends before, during or after a READ, at a random time.\n",
            *lines,
            "",
            _WORDS,
            "Before there was a reference holder, READs with foreign bytes of those that were accepted (64 pages",
            "refilled at random, READs of 8):\n",
            *earlier,
            "",
            _UNKNOWN,
        ]
    )


@app.command()
def leases(
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="how many leases of each kind")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="another one for other times and pages")] = 0,
    to: Annotated[Path | None, typer.Option("--page", help="write the figures as a page")] = None,
) -> None:
    """Count whose bytes reach a reader, and which it accepts, when leases end under its READs."""
    if importlib.util.find_spec("nixl") is None:
        Console(stderr=True).print("leases: nixl is not installed; make install installs it", markup=False)
        raise typer.Exit(2)
    require_writable(to, "--page", "leases")
    console = Console(highlight=False)
    rows: list[list[str]] = []
    faults: list[str] = []
    for transport, tls in TLS.items():
        os.environ["UCX_TLS"] = tls  # UCX reads it again for each agent
        for means in Means:
            try:
                agent = create_agent(f"leases-{transport}-{means.value}")
                with LeaseRounds(agent, means, transport, seed) as measuring:
                    rates = measuring.run(rounds)
            except Exception as error:
                console.print(f"leases: {transport} {means.value} not measured: {type(error).__name__}: {error}")
                raise typer.Exit(3) from error
            rows.append(row(transport, means, rates))
            if why := broken(means, rates):
                faults.append(f"{transport} {means.value}: {why}")
    console.print(f"READs of {READ_PAGES} pages of {PAGE_BYTES // 1024} KiB")
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for cells in (HEADINGS, *rows):
        console.print(" ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    console.print("docs/records/leases.md says what the columns are")
    for transport, (never, after) in EARLIER.items():
        console.print(f"measured earlier, {transport}: {never} foreign without a look, {after} with one")
    for fault in faults:
        console.print(fault)
    if to is not None:
        to.write_text(page(rows, seed))
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    app()
