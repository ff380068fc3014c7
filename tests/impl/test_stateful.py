"""The reference sender and reader, and senders that are not right, as state machines of hypothesis."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.mutants.clause_by_clause import SucceedsWhenPosted
from tests.mutants.inline import InlineAdapter
from tests.mutants.inline_reader import ReaderAdapter
from tests.mutants.readers import NeverLooksAtTheGrant
from tests.mutants.seed import BeforeTheFix, SeedAdapter

from kvsender_nixl.adapter import adapter
from kvsender_nixl.reader_adapter import adapter as reader
from kvsender_spec.fronts.hypothesis import ClauseBroken, state_machine

SMALL: Final = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

TestReferenceSender = state_machine(adapter).TestCase
TestReferenceSender.settings = SMALL
TestReferenceReader = state_machine(reader).TestCase
TestReferenceReader.settings = SMALL
TestInlineSender = state_machine(InlineAdapter()).TestCase
TestInlineSender.settings = SMALL


@pytest.mark.parametrize(
    ("broken", "clauses"),
    [
        (SeedAdapter(BeforeTheFix), {"KS-1.1", "KS-1.2"}),
        (InlineAdapter(SucceedsWhenPosted), {"KS-3.1"}),
        (ReaderAdapter(NeverLooksAtTheGrant), {"KS-3.1"}),
    ],
    ids=["the seed before its fix", "success when posted", "no look at the grant"],
)
def test_a_broken_sender_is_found_and_shrunk(
    broken: SeedAdapter | InlineAdapter, clauses: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    once = settings(SMALL, phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False, max_examples=500)
    with pytest.raises(ClauseBroken) as raised:
        run_state_machine_as_test(state_machine(broken), settings=once)
    assert str(raised.value).split(":")[0] in clauses
    # What hypothesis prints is the whole reproduction: few lines, each a call of the state machine.
    told = "\n".join(raised.value.__notes__)
    assert told.count("\nstate.") >= 3, "begin, at least one call, teardown"
    assert told.count("\nstate.") < 7
