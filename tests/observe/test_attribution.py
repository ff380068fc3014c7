"""Which clause a violation is blamed on, from violations made by hand."""

from __future__ import annotations

import pytest

from kvsender_spec.clauses import BY_ID, claimed
from kvsender_spec.machine import Profile
from kvsender_spec.observe import attribution
from kvsender_spec.observe.attribution import NAMING, OWN_ERROR, SPEAKS_OF, Tally, contexts_of, excused
from kvsender_spec.observe.verdict import Findings, Reason, Violation
from kvsender_spec.trace import Call, Setup, Step, Trace

SETUP = Setup(chunks=((1,),), peers=1)
LATCH = frozenset(clause.id for clause in claimed(Profile.LATCH))


def trace(steps: int = 3) -> Trace:
    return Trace(SETUP, (Step(Call.POLL),) * steps)


def broken(rule: str, *contexts: str, seq: int = 9, after: str = "", room: int = 1) -> Violation:
    return Violation(rule, "this", "that", seq, room, after, frozenset(contexts))


def tally(*runs: list[Violation], claims: frozenset[str] = frozenset(BY_ID)) -> Tally:
    """What runs with these violations come to."""
    made = Tally(claimed=claims)
    for violations in runs:
        made.add(trace(), Findings(violations=violations))
    return made


# ---------------------------------------------------------------------------------------- what a rule speaks about


def test_a_circumstance_that_a_rule_is_about_explains_nothing() -> None:
    assert contexts_of(broken("KS-2.2", "KS-5.1", "KS-5.2")) == {"KS-5.2"}
    assert contexts_of(broken("KS-2.1", "KS-5.1", "KS-5.2")) == {"KS-5.1", "KS-5.2"}
    assert contexts_of(broken("KS-4.1", "KS-5.1", "KS-5.4", "KS-7.2")) == {"KS-7.2"}


def test_an_order_or_an_empty_room_explains_outcomes_only() -> None:
    assert contexts_of(broken("KS-3.1", "KS-3.2", "KS-3.6")) == {"KS-3.2", "KS-3.6"}
    assert contexts_of(broken("KS-2.1", "KS-3.2", "KS-3.6", "KS-5.2")) == {"KS-5.2"}


def test_a_rule_is_no_circumstance_of_itself() -> None:
    assert contexts_of(broken("KS-3.2", "KS-3.2", "KS-3.6")) == {"KS-3.6"}
    assert contexts_of(broken("KS-8.1", "KS-8.1")) == frozenset()


def test_the_tables_name_clauses() -> None:
    named = {clause for clause, _ in NAMING}
    assert named <= set(BY_ID)
    assert len(named) == len(NAMING)
    assert set(SPEAKS_OF) <= set(BY_ID)
    assert frozenset[str]().union(*SPEAKS_OF.values()) <= named


# --------------------------------------------------------------------------------------- explained over all runs


def test_a_circumstance_is_a_candidate_as_long_as_the_rule_never_breaks_without_it() -> None:
    made = tally([broken("KS-2.1", "KS-5.1", "KS-5.2")], [broken("KS-2.1", "KS-5.2", "KS-5.4")])
    assert made.candidates == {"KS-2.1": frozenset({"KS-5.2"})}
    made.add(trace(), Findings(violations=[broken("KS-2.1")]))
    assert made.candidates == {"KS-2.1": frozenset()}


def test_each_rule_has_candidates_of_its_own() -> None:
    made = tally([broken("KS-2.1", "KS-5.2")], [broken("KS-3.5")])
    assert made.candidates == {"KS-2.1": frozenset({"KS-5.2"}), "KS-3.5": frozenset()}


def test_what_breaks_after_another_rule_says_nothing_about_circumstances() -> None:
    made = tally([broken("KS-2.1", "KS-5.2")], [broken("KS-2.1", after="KS-3.1")])
    assert made.candidates == {"KS-2.1": frozenset({"KS-5.2"})}
    assert made.later["KS-2.1"].violation.after == "KS-3.1"
    assert made.broken["KS-2.1"] == 2


def test_an_echo_is_counted_and_kept_nowhere() -> None:
    made = tally([broken("KS-2.1", "KS-5.2"), broken("KS-2.1", after="KS-2.1", seq=12)])
    assert made.broken["KS-2.1"] == 2
    assert made.candidates == {"KS-2.1": frozenset({"KS-5.2"})}
    assert not made.later


def test_the_example_with_the_fewest_circumstances_is_kept_and_then_the_shortest() -> None:
    made = Tally()
    for steps, contexts in ((9, ("KS-5.2",)), (3, ("KS-5.2", "KS-5.1")), (7, ("KS-5.2",)), (8, ("KS-5.2",))):
        made.add(trace(steps), Findings(violations=[broken("KS-2.1", *contexts)]))
    kept = made.first["KS-2.1"]
    assert (len(kept.trace.steps), kept.violation.contexts) == (7, frozenset({"KS-5.2"}))


def test_runs_add_up() -> None:
    made = Tally()
    for number in range(2):
        findings = Findings(reasons={"KS-3.1": (Reason.NOT_RECORDED, f"run {number}")})
        findings.held["KS-2.1"] = 3
        made.add(trace(4), findings)
    assert (made.runs, made.steps, made.held["KS-2.1"]) == (2, 8, 6)
    assert made.reasons.reasons == {"KS-3.1": (Reason.NOT_RECORDED, "run 0")}


# ------------------------------------------------------------------------------------------------------- naming


CIRCUMSTANCES = [clause for clause, _ in NAMING if clause != "KS-2.8"]
"""KS-2.8 explains KS-1.3 alone, and only where it is broken itself."""


@pytest.mark.parametrize("number", range(len(CIRCUMSTANCES) - 1))
def test_of_several_circumstances_the_first_of_the_table_is_named(number: int) -> None:
    """A rule of outcomes that no circumstance is part of: all of them may explain it."""
    here = CIRCUMSTANCES[number:]
    made = tally([broken("KS-3.5", *here)])
    assert made.name(broken("KS-3.5", *here)) == here[0]
    assert made.name(broken("KS-3.5", *reversed(here[1:]))) == here[1]


def test_a_wrong_attribution_explains_an_internal_error_only_where_it_is_wrong_elsewhere() -> None:
    made = tally([broken("KS-1.3", "KS-2.8")])
    assert made.name(broken("KS-1.3", "KS-2.8")) == "KS-1.3"
    made = tally([broken("KS-1.3", "KS-2.8")], [broken("KS-2.8")])
    assert made.name(broken("KS-1.3", "KS-2.8")) == "KS-2.8"


def test_a_rule_that_breaks_without_any_circumstance_is_blamed_itself() -> None:
    made = tally([broken("KS-2.1", "KS-5.2")], [broken("KS-2.1")])
    assert made.name(broken("KS-2.1", "KS-5.2")) == "KS-2.1"


def test_what_the_shortest_trace_no_longer_needs_is_not_named() -> None:
    made = tally([broken("KS-2.1", "KS-5.2", "KS-7.2")])
    assert made.name(broken("KS-2.1", "KS-5.2")) == "KS-5.2"
    assert made.name(broken("KS-2.1")) == "KS-2.1"


def test_a_clause_that_the_profile_does_not_claim_is_not_named() -> None:
    made = tally([broken("KS-2.1", "KS-5.2", "KS-2.7")], claims=LATCH)
    assert made.name(broken("KS-2.1", "KS-5.2", "KS-2.7")) == "KS-2.7"
    assert made.name(broken("KS-2.1", "KS-5.2")) == "KS-2.1"


def test_an_error_of_its_own_is_named_by_the_circumstance_that_it_takes() -> None:
    made = tally([broken(OWN_ERROR, "KS-5.4")])
    assert made.name(broken(OWN_ERROR, "KS-5.4")) == "KS-5.4"
    assert tally([broken(OWN_ERROR)]).name(broken(OWN_ERROR)) == OWN_ERROR


# ------------------------------------------------------------------------------------- companions that are certain


def test_a_rule_with_a_companion_that_needs_no_circumstance_is_blamed_itself() -> None:
    """Each answer that breaks KS-2.2 breaks KS-1.2 too, and KS-1.2 breaks without any circumstance."""
    both = [broken("KS-2.2", "KS-5.4"), broken("KS-1.2", "KS-5.4")]
    made = tally(both, [broken("KS-1.2")])
    assert made.candidates["KS-2.2"] == {"KS-5.4"}
    assert made.established("KS-2.2") == "KS-1.2"
    assert made.name(both[0]) == "KS-2.2"


def test_a_companion_that_takes_the_circumstance_itself_establishes_nothing() -> None:
    both = [broken("KS-2.2", "KS-5.4"), broken("KS-1.2", "KS-5.4")]
    made = tally(both, both)
    assert made.established("KS-2.2") == ""
    assert made.name(both[0]) == "KS-5.4"


def test_a_companion_that_is_not_always_there_establishes_nothing() -> None:
    both = [broken("KS-2.2", "KS-5.4"), broken("KS-1.2", "KS-5.4")]
    made = tally(both, [broken("KS-1.2")], [broken("KS-2.2", "KS-5.4")])
    assert made.established("KS-2.2") == ""
    assert made.name(both[0]) == "KS-5.4"


def test_only_what_the_same_event_breaks_is_a_companion() -> None:
    made = tally([broken("KS-2.2", "KS-5.4"), broken("KS-1.2", seq=10)])
    assert made.established("KS-2.2") == ""


def test_a_companion_that_only_ever_breaks_later_establishes_nothing() -> None:
    made = tally([broken("KS-2.2", "KS-5.4"), broken("KS-1.2", after="KS-1.1")])
    assert made.established("KS-2.2") == ""


def test_a_companion_that_is_the_circumstance_itself_is_what_is_named() -> None:
    both = [broken("KS-3.5", "KS-3.2"), broken("KS-3.2")]
    made = tally(both)
    assert made.established("KS-3.5") == ""
    assert made.name(both[0]) == "KS-3.2"


def test_a_rule_is_no_companion_of_itself() -> None:
    assert tally([broken("KS-2.1")]).established("KS-2.1") == ""


# --------------------------------------------------------------------------------------------- the caller's mistakes


@pytest.mark.parametrize("mistake", ["KS-8.1", "KS-7.2"])
def test_what_a_profile_forbids_the_caller_excuses_the_sender(mistake: str) -> None:
    made = tally([broken("KS-2.1", mistake)], claims=LATCH)
    assert made.excused == {"KS-2.1": 1}
    assert not made.broken
    assert not made.first
    assert not made.candidates
    assert excused(broken("KS-2.1", mistake), LATCH)


@pytest.mark.parametrize("mistake", ["KS-8.1", "KS-7.2"])
def test_a_profile_that_claims_it_has_no_excuse(mistake: str) -> None:
    made = tally([broken("KS-2.1", mistake)])
    assert not made.excused
    assert made.name(broken("KS-2.1", mistake)) == mistake


def test_an_excused_violation_does_not_make_another_one_look_unexplained() -> None:
    made = tally([broken("KS-2.1", "KS-2.7")], [broken("KS-2.1", "KS-8.1")], claims=LATCH)
    assert made.candidates == {"KS-2.1": frozenset({"KS-2.7"})}


# --------------------------------------------------------------------------------------------------- met afterwards


def test_what_the_shortened_run_breaks_later_is_kept() -> None:
    made = tally([broken("KS-2.2")])
    made.met_afterwards(trace(2), [broken("KS-2.2"), broken("KS-2.1", after="KS-2.2")])
    assert made.later["KS-2.1"].violation.after == "KS-2.2"
    assert made.broken == {"KS-2.2": 1, "KS-2.1": 1}


def test_what_is_known_already_is_not_counted_again() -> None:
    made = tally([broken("KS-2.2")], [broken("KS-2.1", after="KS-2.2")])
    made.met_afterwards(trace(2), [broken("KS-2.1", after="KS-2.2")])
    assert made.broken["KS-2.1"] == 1
    assert len(made.later["KS-2.1"].trace.steps) == 2, "the shorter run is the better example"


def test_what_is_broken_first_elsewhere_or_echoes_is_not_met_afterwards() -> None:
    made = tally([broken("KS-2.2")], [broken("KS-2.1")])
    made.met_afterwards(
        trace(2),
        [broken("KS-2.1", after="KS-2.2"), broken("KS-3.1", after="KS-3.1"), broken("KS-3.5")],
    )
    assert not made.later
    assert made.broken == {"KS-2.2": 1, "KS-2.1": 1}


def test_what_the_profile_excuses_is_not_met_afterwards() -> None:
    made = tally([broken("KS-2.2")], claims=LATCH)
    made.met_afterwards(trace(2), [broken("KS-2.1", "KS-8.1", after="KS-2.2")])
    assert not made.later


# ------------------------------------------------------------------------------------------------------------ shows


def test_a_clause_is_shown_where_it_breaks_first_or_may_explain() -> None:
    made = tally([broken("KS-2.1", "KS-5.2")], [broken("KS-3.1", after="KS-2.1")])
    assert made.shows(["KS-2.1", "KS-5.2"])
    assert not made.shows(["KS-3.1"])
    assert not made.shows(["KS-2.1", "KS-5.4"])


# --------------------------------------------------------------------------------------------------- planted faults


def test_another_order_of_the_table_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "NAMING", NAMING[::-1])
    made = tally([broken("KS-3.5", "KS-7.2", "KS-5.2")])
    assert made.name(broken("KS-3.5", "KS-7.2", "KS-5.2")) == "KS-5.2"


def test_a_rule_that_speaks_of_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "SPEAKS_OF", {})
    assert contexts_of(broken("KS-2.2", "KS-5.1")) == {"KS-5.1"}
