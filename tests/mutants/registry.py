"""Every broken sender in one list, with the clause that it is meant to break, and the senders that break nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Final

from tests.mutants.acking import ADAPTERS as ACKING
from tests.mutants.acking import adapter as acking
from tests.mutants.adopters import ADAPTERS as ADOPTERS
from tests.mutants.broken import BROKEN
from tests.mutants.clause_by_clause import ADAPTERS
from tests.mutants.inline import InlineAdapter
from tests.mutants.kinds import ADAPTERS as KINDS
from tests.mutants.needs_nixl import adapter as needs_nixl
from tests.mutants.seed import AfterTheFix, BeforeTheFix, SeedAdapter
from tests.mutants.styles import STYLES
from tests.mutants.waiting import ADAPTERS as WAITING
from tests.mutants.worker_flight import FLIGHT_MUTANTS
from tests.mutants.worker_latch import LATCH_MUTANTS
from tests.mutants.worker_threads import ENGINE_MUTANTS, THREAD_MUTANTS
from tests.mutants.workers import WorkerAdapter

from kvsender_spec.kit.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken sender."""

    adapter: Adapter
    breaks: str
    """The id of the clause."""
    threads: bool
    """It is written with a worker thread, not inline."""
    story: str
    """What is wrong with it, and whose bug that was."""

    @property
    def name(self) -> str:
        return self.adapter.name


def _mutant(adapter: Adapter, broken: type) -> Mutant:
    """What is broken says itself which clause it breaks; a subclass that says nothing is not a mutant."""
    return Mutant(
        adapter, str(vars(broken)["breaks"]), isinstance(adapter, WorkerAdapter), inspect.getdoc(broken) or ""
    )


MUTANTS: Final = (
    *(_mutant(SeedAdapter(sender), sender) for sender in (BeforeTheFix, AfterTheFix)),
    *(_mutant(InlineAdapter(sender), sender) for sender in BROKEN),
    *(_mutant(adapter, adapter.sender_class) for adapter in ADAPTERS),
    *(_mutant(adapter, broken) for adapter, broken in (*KINDS, *WAITING, *ADOPTERS, *ACKING)),
    _mutant(needs_nixl, type(needs_nixl)),
    *(_mutant(WorkerAdapter(sender), sender) for sender in (*LATCH_MUTANTS, *FLIGHT_MUTANTS, *THREAD_MUTANTS)),
    *(_mutant(WorkerAdapter(engine_class=engine), engine) for engine in ENGINE_MUTANTS),
)
CORRECT: Final[tuple[Adapter, ...]] = (InlineAdapter(), WorkerAdapter(), acking, *STYLES)
"""The first two were written apart from each other and from the reference sender, which is the third."""
