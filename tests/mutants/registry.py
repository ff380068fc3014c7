"""Every broken sender and reader, with the clause that it is meant to break, and those that break nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Final

from tests.mutants.acking import ADAPTERS as ACKING
from tests.mutants.acking import AckingSystem
from tests.mutants.acking import adapter as acking
from tests.mutants.adopters import ADAPTERS as ADOPTERS
from tests.mutants.broken import BROKEN
from tests.mutants.clause_by_clause import ADAPTERS
from tests.mutants.inline import InlineAdapter
from tests.mutants.inline_reader import ReaderAdapter
from tests.mutants.kinds import ADAPTERS as KINDS
from tests.mutants.needs_nixl import adapter as needs_nixl
from tests.mutants.reader_pump import ADAPTERS as PUMPS
from tests.mutants.reader_pump import adapter as pump
from tests.mutants.readers import ADAPTERS as READING
from tests.mutants.readers import acking as acking_reader
from tests.mutants.seed import AfterTheFix, BeforeTheFix, SeedAdapter
from tests.mutants.styles import STYLES
from tests.mutants.waiting import ADAPTERS as WAITING
from tests.mutants.worker_flight import FLIGHT_MUTANTS
from tests.mutants.worker_latch import LATCH_MUTANTS
from tests.mutants.worker_threads import ENGINE_MUTANTS, THREAD_MUTANTS
from tests.mutants.workers import WorkerAdapter

from kvsender_spec.kit.adapter import Adapter, operation_of


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken sender, or reader."""

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

    @property
    def reads(self) -> bool:
        return operation_of(self.adapter) == "READ"


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
READERS: Final = tuple(_mutant(adapter, broken) for adapter, broken in (*READING, *PUMPS))
EVERY: Final = (*MUTANTS, *READERS)
CORRECT: Final[tuple[Adapter, ...]] = (InlineAdapter(), WorkerAdapter(), acking, *STYLES)
"""The first two were written apart from each other and from the reference sender, which is the third."""
CORRECT_READERS: Final[tuple[Adapter, ...]] = (ReaderAdapter(), pump, acking_reader(AckingSystem))
