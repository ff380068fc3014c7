"""Random calls on two real NIXL agents and on two scripted ones, which have to answer the same.

``make differential SECONDS=60`` draws programs until the time is over. hypothesis shortens a program whose answers
differ, and prints it. What NIXL leaves to chance, or crashes at, is not drawn: see the preconditions. Peers that die,
stop or come back are the verified-fake suite's, which asks for one behaviour at a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import typer
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from tests.kit.sides import CUTS, NAMES, PAGE, PAGES, SIZE, RealSide, ScriptedSide, Side, Span

from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_spec.contract import INIT_AGENT, Operation
from kvsender_spec.kit.scripted.fabric import Fabric

CALLS: Final = 30
"""The most calls of a program."""

Answer: TypeAlias = tuple[str, object]
"""How a call ended, and what it answered, without what differs between any two agents."""


def answer(call: Callable[[], object]) -> Answer:
    try:
        value = call()
    except Exception as error:
        return "raises", type(error).__name__
    return "returns", value if isinstance(value, (str, bool, list, tuple, type(None))) else type(value).__name__


owners = st.sampled_from(NAMES)
pages = st.integers(0, PAGES - 1)
spans = st.one_of(
    st.tuples(pages.map(lambda page: page * PAGE), st.sampled_from([PAGE, 2 * PAGE, PAGE // 2])),
    st.sampled_from([(0, SIZE), (PAGE // 2, PAGE), (SIZE - PAGE, PAGE), (PAGE, 0)]),
).filter(lambda span: sum(span) <= SIZE)
"""Spans of an agent's memory: what lies outside it is nobody's, and nothing may copy it."""
messages = st.sampled_from([b"", b"", b"x", b"\x00\xff end"])


def overlap(one: Span, other: Span) -> bool:
    """They share a byte, or begin at the same one."""
    return one[0] == other[0] or (one[0] < sum(other) and other[0] < sum(one))


class Differential(RuleBasedStateMachine):
    """Each rule makes one call on both sides, and compares."""

    fabric: ClassVar[Callable[[], Fabric]] = Fabric
    answers: ClassVar[Counter[str]] = Counter()
    """How often both sides gave which answer to which call, over all programs."""
    registrations = Bundle("registrations")
    blobs = Bundle("blobs")
    lists = Bundle("lists")
    descs = Bundle("descs")
    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.sides: Final[tuple[Side, ...]] = (RealSide(), ScriptedSide(type(self).fabric()))
        self.gone: Final[set[int]] = set()
        """Numbers of what was released: NIXL crashes where it is used again."""
        self.posted: Final[set[int]] = set()
        self.operations: Final[dict[int, Operation]] = {}
        self.registered: Final[dict[str, list[Span]]] = {name: [] for name in NAMES}
        self.deregistered: Final[set[str]] = set()

    # -- both sides

    def same(self, asked: str, call: Callable[[Side], object]) -> Answer:
        real, scripted = (answer(partial(call, side)) for side in self.sides)
        return self.compared(asked, real, scripted)

    def compared(self, asked: str, real: Answer, scripted: Answer) -> Answer:
        assert real == scripted, f"NIXL {real[0]} {real[1]!r}, the scripted agent {scripted[0]} {scripted[1]!r}"
        what = real[1] if real[0] == "raises" or isinstance(real[1], str) else real[0]
        self.answers[f"{asked}: {what}"] += 1
        return real

    def keep(self, asked: str, call: Callable[[Side], object]) -> Any:
        """Make something on both sides, which has the same number on both."""

        def kept(side: Side) -> str:
            made = call(side)
            side.objects.append(made)
            return "made"

        done = self.same(asked, kept) == ("returns", "made")
        return len(self.sides[0].objects) - 1 if done else multiple()

    # -- memory

    @initialize(
        registered=st.sampled_from(["", "a", "ab", "ab", "ab"]), connected=st.sampled_from([True, True, True, False])
    )
    def starts(self, registered: str, connected: bool) -> None:
        """Most programs begin where transfers can be made: what comes before is drawn as well."""
        for owner in registered:
            self.register_memory(owner, [(0, SIZE - 2 * PAGE)], False)
        for owner, peer in zip(NAMES, reversed(NAMES), strict=True):
            if connected:
                self.add_remote_agent(owner, self.get_agent_metadata(peer, None))

    @rule(
        target=registrations,
        owner=owners,
        regions=st.lists(spans, max_size=2, unique=True),
        null=st.sampled_from([False, False, False, True]),
    )
    def register_memory(self, owner: str, regions: list[Span], null: bool) -> Any:
        """No regions that overlap: NIXL finds in them what it meets first, and crashes where a list names one twice."""
        taken = self.registered[owner]
        regions = [
            region for n, region in enumerate(regions) if not any(overlap(region, o) for o in [*taken, *regions[:n]])
        ]
        taken += regions
        number = self.keep(
            "register_memory",
            lambda side: side.agents[owner].register_memory(
                [(side.address(owner, span), span[1], 0, "") for span in regions] + [(0, PAGE, 0, "")] * null, "DRAM"
            ),
        )
        return (owner, number) if isinstance(number, int) else multiple()

    @rule(registration=registrations)
    def deregister_memory(self, registration: tuple[str, int]) -> None:
        owner, number = registration
        self.deregistered.add(owner)
        self.same("deregister_memory", lambda side: side.agents[owner].deregister_memory(side.objects[number]))

    # -- peers

    @rule(target=blobs, owner=owners, cut=st.sampled_from([None, None, None, *CUTS]))
    def get_agent_metadata(self, owner: str, cut: str | None) -> Any:
        def cut_short(side: Side) -> bytes:
            blob = side.agents[owner].get_agent_metadata()
            return blob if cut is None else blob[: side.end(blob, cut)]

        return self.keep("get_agent_metadata", cut_short)

    @rule(owner=owners, blob=blobs)
    def add_remote_agent(self, owner: str, blob: int) -> None:
        def named(side: Side) -> str:
            name = side.agents[owner].add_remote_agent(side.objects[blob])
            long = name.decode() if isinstance(name, bytes) else name
            return next(short for short in NAMES if side.names[short] == long)

        self.same("add_remote_agent", named)

    @rule(owner=owners, junk=st.sampled_from([b"", b"junk", b"\x00" * 64]))
    def add_what_is_no_metadata(self, owner: str, junk: bytes) -> None:
        self.same("add_what_is_no_metadata", lambda side: side.agents[owner].add_remote_agent(junk))

    @rule(owner=owners, peer=owners, seldom=st.sampled_from([False, False, False, True]))
    def remove_remote_agent(self, owner: str, peer: str, seldom: bool) -> None:
        if not seldom:
            return  # what follows a removal is mostly refused
        self.same("remove_remote_agent", lambda side: side.agents[owner].remove_remote_agent(side.names[peer]))

    @rule(owner=owners, peer=owners)
    def check_remote_metadata(self, owner: str, peer: str) -> None:
        self.same("check_remote_metadata", lambda side: side.agents[owner].check_remote_metadata(side.names[peer]))

    # -- descriptors

    @rule(
        target=lists,
        owner=owners,
        of=st.sampled_from(["", INIT_AGENT, "a", "b"]),
        rows=st.lists(spans, max_size=3),
        array=st.booleans(),
    )
    def prep_xfer_dlist(self, owner: str, of: str, rows: list[Span], array: bool) -> Any:
        at = of if of in NAMES else owner

        def prepared(side: Side) -> object:
            plain = [(side.address(at, span), span[1], 0) for span in rows]
            table: Any = np.array(plain, np.uint64).reshape(-1, 3) if array else plain
            return side.agents[owner].prep_xfer_dlist(side.names.get(of, of), table, "DRAM")

        number = self.keep("prep_xfer_dlist", prepared)
        return (owner, number, len(rows)) if isinstance(number, int) else multiple()

    @rule(
        target=lists,
        owner=owners,
        of=st.sampled_from([INIT_AGENT, "a", "b"]),
        first=pages,
        stride=st.sampled_from([PAGE, 2 * PAGE, PAGE // 2]),
        count=st.integers(0, 3),
        array=st.booleans(),
    )
    def prep_strided(self, owner: str, of: str, first: int, stride: int, count: int, array: bool) -> Any:
        at = of if of in NAMES else owner

        def prepared(side: Side) -> object:
            row = (side.address(at, (first * PAGE, PAGE)), PAGE, 0, stride, count)
            table: Any = np.array([row], np.uint64) if array else [row]
            return side.agents[owner].prep_xfer_dlist(side.names.get(of, of), table, "DRAM")

        number = self.keep("prep_strided", prepared)
        return (owner, number, count) if isinstance(number, int) else multiple()

    @rule(made=lists)
    def release_dlist_handle(self, made: tuple[str, int, int]) -> None:
        owner, number, _ = made
        if number not in self.gone:
            self.gone.add(number)
            self.same(
                "release_dlist_handle", lambda side: side.agents[owner].release_dlist_handle(side.objects[number])
            )

    @rule(target=descs, owner=owners, at=owners, rows=st.lists(spans, max_size=3))
    def get_xfer_descs(self, owner: str, at: str, rows: list[Span]) -> Any:
        return self.keep(
            "get_xfer_descs",
            lambda side: side.agents[owner].get_xfer_descs(
                [(side.address(at, span), span[1], 0) for span in rows], "DRAM"
            ),
        )

    # -- transfers

    @rule(
        target=handles,
        local=lists,
        remote=lists,
        picks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3),
        shorter=st.booleans(),
        operation=st.sampled_from(["WRITE", "READ"]),
        message=messages,
    )
    def make_prepped_xfer(
        self,
        local: tuple[str, int, int],
        remote: tuple[str, int, int],
        picks: Sequence[tuple[int, int]],
        shorter: bool,
        operation: Operation,
        message: bytes,
    ) -> Any:
        owner = local[0]
        if remote[0] != owner or {local[1], remote[1]} & self.gone:
            return multiple()
        ours, theirs = [pick[0] for pick in picks], [pick[1] for pick in picks]
        number = self.keep(
            "make_prepped_xfer",
            lambda side: side.agents[owner].make_prepped_xfer(
                operation,
                side.objects[local[1]],
                np.array(ours[: -1 if shorter else None], np.int32),
                side.objects[remote[1]],
                np.array(theirs, np.int32),
                message,
            ),
        )
        return self.handle(owner, number, operation)

    def handle(self, owner: str, number: Any, operation: Operation) -> Any:
        if not isinstance(number, int):
            return multiple()
        self.operations[number] = operation
        return owner, number

    @rule(
        target=handles,
        owner=owners,
        local=descs,
        remote=descs,
        peer=owners,
        operation=st.sampled_from(["WRITE", "READ", "COPY"]),
        message=messages,
    )
    def initialize_xfer(
        self, owner: str, local: int, remote: int, peer: str, operation: Operation, message: bytes
    ) -> Any:
        number = self.keep(
            "initialize_xfer",
            lambda side: side.agents[owner].initialize_xfer(
                operation, side.objects[local], side.objects[remote], side.names[peer], message
            ),
        )
        return self.handle(owner, number, operation)

    @rule(
        target=handles,
        owner=owners,
        peer=owners,
        length=st.sampled_from([PAGE, PAGE, PAGE // 2, 0]),
        pairs=st.lists(
            st.tuples(st.integers(0, PAGES - 3), st.integers(0, PAGES - 3)),
            min_size=1,
            max_size=3,
        ),
        prepared=st.booleans(),
        operation=st.sampled_from(["WRITE", "READ"]),
        message=messages,
    )
    def move(
        self,
        owner: str,
        peer: str,
        length: int,
        pairs: list[tuple[int, int]],
        prepared: bool,
        operation: Operation,
        message: bytes,
    ) -> Any:
        """The calls of a whole transfer, of which the rules by themselves seldom make one."""
        ours, theirs = ([(pair[n] * PAGE, length) for pair in pairs] for n in (0, 1))
        targets = ours if operation == "READ" else theirs
        if len(set(targets)) < len(targets):
            return multiple()  # which of two pages comes last into one is left to chance
        if owner == peer and set(ours) & set(theirs):
            return multiple()  # so is which page is read before it is written
        if prepared:
            local = self.prep_xfer_dlist(owner, INIT_AGENT, ours, True)
            remote = self.prep_xfer_dlist(owner, peer, theirs, False)
            if not (isinstance(local, tuple) and isinstance(remote, tuple)):
                return multiple()
            picks = [(n, n) for n in range(len(pairs))]
            handle = self.make_prepped_xfer(local, remote, picks, False, operation, message)
        else:
            local, remote = self.get_xfer_descs(owner, owner, ours), self.get_xfer_descs(owner, peer, theirs)
            handle = self.initialize_xfer(owner, local, remote, peer, operation, message)
        if isinstance(handle, tuple):
            self.transfer(handle, b"")
        return handle

    @rule(handle=handles, message=messages)
    def transfer(self, handle: tuple[str, int], message: bytes) -> None:
        """Whether it is done at once is left to chance, and so is a second post before it is done."""
        owner, number = handle
        if number in self.gone or self.deregistered:
            return

        def posted(side: Side) -> str:
            said = side.agents[owner].transfer(side.objects[number], message)
            return side.settle(owner, side.objects[number]) if said == "PROC" else said

        self.same(f"transfer {self.operations[number]}", posted)
        self.posted.add(number)
        self.memories()

    @rule(handle=handles)
    def check_xfer_state(self, handle: tuple[str, int]) -> None:
        owner, number = handle
        if number not in self.gone:
            self.same("check_xfer_state", lambda side: side.agents[owner].check_xfer_state(side.objects[number]))

    @rule(handle=handles)
    def release_xfer_handle(self, handle: tuple[str, int]) -> None:
        owner, number = handle
        if number not in self.gone:
            self.gone.add(number)
            self.same("release_xfer_handle", lambda side: side.agents[owner].release_xfer_handle(side.objects[number]))

    # -- notifications

    @rule(owner=owners, peer=owners, message=messages)
    def send_notif(self, owner: str, peer: str, message: bytes) -> None:
        self.same("send_notif", lambda side: side.agents[owner].send_notif(side.names[peer], message))

    @rule(owner=owners)
    def get_new_notifs(self, owner: str) -> None:
        real, scripted = self.sides
        expected = answer(partial(scripted.notifs, owner))
        real.wait_for(owner, len(expected[1]) if isinstance(expected[1], list) else 0)
        self.compared("get_new_notifs", answer(partial(real.notifs, owner)), expected)

    # -- at the end

    def memories(self) -> None:
        for name in NAMES:
            real, scripted = (side.memory[name] for side in self.sides)
            assert np.array_equal(real, scripted), f"{name}'s memory differs"

    def teardown(self) -> None:
        for side in self.sides:
            side.objects.clear()
            side.agents.clear()


def run(machine: type[Differential], *, programs: int, number: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    """Draw so many programs; raise where the answers differ."""
    seed(number)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=CALLS,
            phases=phases,
            report_multiple_bugs=False,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def prepare() -> None:
    """NIXL in this process, quiet, over tcp."""
    os.environ.update(NIXL_ENV)
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def main(seconds: float = 60.0, first: int = 0) -> None:
    """Draw programs for so long. Exit codes: 0 nothing differs, 1 something does."""
    prepare()
    ends, programs, number = time.monotonic() + seconds, 0, first
    while time.monotonic() < ends:
        run(Differential, programs=50, number=number)
        programs, number = programs + 50, number + 1
    for answered, times in sorted(Differential.answers.items()):
        print(f"{times:7} {answered}")
    print(f"{programs} programs of up to {CALLS} calls (seeds {first} to {number - 1}): nothing differs")


if __name__ == "__main__":
    sys.tracebacklimit = 0
    typer.run(main)
