"""The metadata of a scripted agent: what its bytes say, and what is lost where they end early.

NIXL reads metadata from the front, and acts on what it has read: a blob that ends behind the connection has already
cost the peer that was there, and its name can never be added again (measured on nixl 1.5.1; ``make differential``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.faults import Kind
from kvsender_spec.kit.scripted.copies import Process, Region

_REFUSED: Final = (
    (Kind.MISMATCH, False),  # the name
    (Kind.MISMATCH, False),  # the connection
    (Kind.MISMATCH, True),  # how many lists of registrations
    (Kind.INVALID_PARAM, True),  # of which backend
    (Kind.NOT_FOUND, True),  # the registrations
)
"""For each section, if it is not there: the error, and whether it costs the peer that is known by this name."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """An agent as it was when it gave its metadata away."""

    agent: Process
    regions: tuple[Region, ...]
    refused: Kind | None = None
    """The error of adding it, for a blob that is not whole."""
    poisons: bool = False


def sections(agent: Process) -> tuple[bytes, ...]:
    """The parts of an agent's metadata, in the order in which they are read."""
    name = f"scripted-agent|{agent.name}|{agent.generation}|".encode()
    if not (agent.regions or agent.hollow):
        return name, b"connection|", b"lists:0|", b"", b""
    return name, b"connection|", b"lists:1|", b"UCX|", repr(agent.regions).encode() + b"|end"


def published(agent: Process) -> Metadata:
    """What whoever adds the whole of it gets."""
    hollow = agent.hollow and not agent.regions
    return Metadata(agent, tuple(agent.regions), Kind.NOT_FOUND if hollow else None, hollow)


def read(blob: bytes, known: Iterable[tuple[Sequence[bytes], Metadata]]) -> Metadata | None:
    """Whose metadata it is, and how far it goes; None where not even the name can be read."""
    longest, found = 0, None
    for parts, metadata in known:
        there = _whole_sections(blob, parts)
        if there == len(parts) and len(blob) == sum(map(len, parts)):
            return metadata
        if there > longest:
            longest, found = there, metadata
    if found is None:
        return None
    refused, poisons = _REFUSED[min(longest, len(_REFUSED) - 1)]
    return Metadata(found.agent, (), refused, poisons)


def _whole_sections(blob: bytes, parts: Sequence[bytes]) -> int:
    at = 0
    for number, part in enumerate(parts):
        if not blob.startswith(part, at):
            return number
        at += len(part)
    return len(parts)
