"""The matrix, its page and its complaints, from findings that no release has made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from kvsender_connectors.adapters import seed
from kvsender_connectors.connectors import BY_KEY, CONNECTORS
from kvsender_connectors.findings import Findings, FindingsError, Shown, Verdict, dump, load_findings, shown
from kvsender_connectors.judged import Judged, complaints, judge
from kvsender_connectors.known import KNOWN, Kind, Known
from kvsender_connectors.page import Edition, write
from kvsender_connectors.witnesses import WITNESSES
from kvsender_spec.clauses import BY_ID, CLAUSES
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.kit.replay import replay
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Call, Scene, Step, Trace

SEED = BY_KEY["seed"]
TRACE = Trace(Scene(), (Step(Call.OPEN), Step(Call.SEND)))
EDITION = Edition("2026-11-22", 0, 100, [("Python", "3.11")])


def findings(fails: Mapping[str, str], *, shows: bool | None = None) -> Findings:
    """Findings in which the given clauses fail, and every witness comes out as it is known to, or as asked."""
    verdicts = {
        clause.id: Verdict(Outcome.FAIL, 1, "", "good", fails[clause.id], TRACE)
        if clause.id in fails
        else Verdict(Outcome.PASS, 9)
        for clause in CLAUSES
    }
    witnesses = tuple(
        Shown(witness.what, (SEED.key in witness.shows) if shows is None else shows) for witness in WITNESSES
    )
    return Findings(verdicts, witnesses, 10, 100)


def result(fails: Mapping[str, str], known: Mapping[str, Known], *, shows: bool | None = None) -> Judged:
    return judge(SEED, findings(fails, shows=shows), {(SEED.key, clause): entry for clause, entry in known.items()})


FOUND = Known(Kind.FOUND_HERE, "it <b>does</b> so")


def test_a_fail_without_an_entry_and_an_entry_without_a_fail_are_said() -> None:
    assert complaints([result({"KS-1.1": "bad"}, {"KS-1.1": FOUND})]) == []
    assert complaints([result({"KS-1.1": "bad"}, {})]) == ["seed KS-1.1: fails, and `known.py` does not say why"]
    assert complaints([result({}, {"KS-1.1": FOUND})]) == ["seed KS-1.1: `known.py` explains a fail that did not come"]
    drawn = replace(FOUND, drawn=True)
    assert complaints([result({}, {"KS-1.1": drawn})]) == []
    assert complaints([result({"KS-1.1": "x"}, {"KS-1.1": drawn})]) == []


def test_a_witness_that_comes_out_otherwise_is_said() -> None:
    said = complaints([result({}, {}, shows=True)])
    assert len(said) == sum(SEED.key not in witness.shows for witness in WITNESSES)
    assert all(line.endswith("was shown, which is new") for line in said)
    said = complaints([result({}, {}, shows=False)])
    assert len(said) == sum(SEED.key in witness.shows for witness in WITNESSES)


def test_the_page_has_the_matrix_the_histories_and_each_fail() -> None:
    public = Known(Kind.PUBLIC, "it does so", ("sgl-project/sglang#24296",))
    page = write(EDITION, [result({"KS-1.1": "a|b *c* <d>", "KS-2.7": "x"}, {"KS-1.1": public, "KS-2.7": FOUND})])
    assert "*2026-11-22; seed 0, 100 runs for each release; Python 3.11.*" in page
    assert "| KS-1.1 NO-ESCAPE | **fail**¹ |" in page
    assert "| KS-1.2 CATCH-SET | pass |" in page
    assert "[sgl-project/sglang#24296](https://github.com/sgl-project/sglang/issues/24296)" in page
    assert "a|b &#42;c&#42; &lt;d&gt;" in page
    assert "it &lt;b&gt;does&lt;/b&gt; so" in page
    assert "1. open(0)\n2. send(0)" in page
    assert all(witness.what in page for witness in WITNESSES)
    assert page.count("<details>") == page.count("</details>") == 2


def test_the_table_of_known_fails_is_about_connectors_and_clauses_that_exist() -> None:
    for (key, clause), known in KNOWN.items():
        assert key in BY_KEY
        assert clause in BY_ID
        assert known.why
        assert bool(known.references) is (known.kind is Kind.PUBLIC), f"{key} {clause}"
        for reference in known.references:
            repository, _, number = reference.partition("#")
            assert len(repository.split("/")) == 2
            assert number.isdigit()


def test_witnesses_are_about_connectors_and_clauses_that_exist() -> None:
    for witness in WITNESSES:
        assert witness.shows <= BY_KEY.keys()
        assert set(witness.clauses) <= BY_ID.keys()
    assert len({witness.what for witness in WITNESSES}) == len(WITNESSES)
    assert len({connector.key for connector in CONNECTORS}) == len(CONNECTORS)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other"}', '{"schema": "kvsender-connector/1"}'])
def test_what_is_no_findings_is_refused(text: str) -> None:
    with pytest.raises(FindingsError):
        load_findings(text)


@pytest.fixture(scope="module")
def seed_findings() -> Findings:
    """The check of the seed's sender, as it travels between processes."""
    report = check(seed.adapter, examples=60, profile=Profile.FULL)
    histories = [shown(number, replay(seed.adapter, witness.trace)) for number, witness in enumerate(WITNESSES)]
    return load_findings(json.dumps(json.loads(dump(report, histories))))


def test_the_seed_catches_three_classes_and_no_other(seed_findings: Findings) -> None:
    assert seed_findings.verdicts["KS-1.1"].outcome is Outcome.FAIL
    assert seed_findings.verdicts["KS-1.2"].outcome is Outcome.FAIL
    for clause in ("KS-1.5", "KS-2.1", "KS-3.1"):
        assert seed_findings.verdicts[clause].outcome is Outcome.PASS, clause


def test_the_seed_shows_what_it_is_known_to(seed_findings: Findings) -> None:
    assert judge(SEED, seed_findings).surprises == []
