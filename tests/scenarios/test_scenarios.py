"""The reference sender and reader do, word for word, what the scenarios of this folder say.

`pytest tests/scenarios --rewrite-scenarios` writes what it does now into them; read what changed before it is kept.
"""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path
from typing import Final

import pytest
from tests.mutants.registry import READERS
from tests.mutants.seed import after_the_fix
from tests.scenarios.scenario import Scenario, ScenarioError, parse, run_scenario

from kvsender_nixl.adapter import adapter
from kvsender_nixl.reader_adapter import adapter as reader
from kvsender_spec.clauses import BY_ID
from kvsender_spec.kit.adapter import Adapter

pytest_plugins = ["pytester"]

FOLDER: Final = Path(__file__).parent
PATHS: Final = sorted(FOLDER.glob("*.txt"))
FAMILIES: Final = (
    "NO-ESCAPE",
    "CATCH-SET",
    "NO-WORKER-DEATH",
    "STICKY",
    "NO-SUCCESS-AFTER-FAIL",
    "FIRST-ERROR",
    "ATTRIBUTION",
    "TERMINATES",
    "NO-FALSE-FAIL",
    "NO-FALSE-SUCCESS",
    "LAST-CHUNK",
    "ORDER-INDEPENDENT",
    "PEER-ISOLATION",
    "PEER-RECOVERY",
    "QUIESCE-BEFORE-FREE",
    "NO-RELEASE-IN-FLIGHT",
    "ACK-IFF-DRAINED",
    "NOTIFY-PEER",
    "RANK-AGREEMENT",
    "ROOM-ISOLATION",
    "NO-RESURRECT",
    "CLEAR-IDEMPOTENT",
    "ABORT-IDEMPOTENT",
    "NO-LEAK",
)
"""Under these names the field has had bugs of its own; each has a scenario."""


def subject(scenario: Scenario) -> Adapter:
    """The reference that a scenario is about."""
    return reader if scenario.reads else adapter


def compare(path: Path, *, rewrite: bool) -> Scenario:
    """Run the file at a path. Fails with a diff where the transcript is another one, unless it is to be rewritten."""
    old = path.read_text(encoding="utf-8")
    scenario = parse(path.name, old)
    new, run = run_scenario(scenario, subject(scenario))
    unseen = [clause for clause in scenario.facts.get("Clauses", []) if not run.observer.findings.held[clause]]
    if unseen:
        pytest.fail(f"{path.name} is said to show {', '.join(unseen)}, but nothing of the kind was observed", False)
    if old == new:
        return scenario
    if rewrite:
        path.write_text(new, encoding="utf-8")
        return parse(path.name, new)
    diff = "\n".join(unified_diff(old.splitlines(), new.splitlines(), f"{path.name}, as it is", "as it was run"))
    pytest.fail(f"{diff}\n\nif that is right: pytest tests/scenarios --rewrite-scenarios", pytrace=False)


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_the_reference_does_what_is_written(path: Path, request: pytest.FixtureRequest) -> None:
    # Where pytest was not started on this folder, its option does not exist.
    rewrite: bool = request.config.getoption("--rewrite-scenarios", default=False)
    scenario = compare(path, rewrite=rewrite)
    facts = scenario.facts
    assert facts["Public"]
    assert set(facts["Family"]) <= set(FAMILIES)
    assert set(facts["Clauses"]) <= BY_ID.keys()
    assert scenario.blocks[-1].command == "end"  # without it, what only the end can show is not judged


def test_every_family_has_a_scenario_and_the_seeds_comes_first() -> None:
    shown = [parse(path.name, path.read_text(encoding="utf-8")).facts for path in PATHS]
    assert {family for facts in shown for family in facts["Family"]} == set(FAMILIES)
    assert "sgl-project/sglang#24296" in shown[0]["Public"]


# ------------------------------------------------------------------------------------------------- the runner itself

SMALL: Final = """\
# A remark.

setup: rooms of 1 pages, 1 peer
----
room 0 is room 7, to decode0

open(0)
----
state: idle

# Another one.
poll(0)
----
caller: answered WaitingForInput
state: idle
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_right_transcript_is_left_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    compare(path, rewrite=False)
    compare(path, rewrite=True)
    assert path.read_text(encoding="utf-8") == SMALL


def test_a_wrong_transcript_fails_with_a_diff_and_is_not_touched(tmp_path: Path) -> None:
    wrong = SMALL.replace("WaitingForInput", "Success")
    path = written(tmp_path, wrong)
    with pytest.raises(pytest.fail.Exception) as caught:
        compare(path, rewrite=False)
    message = str(caught.value)
    assert message.startswith("--- small.txt, as it is")
    assert "-caller: answered Success\n+caller: answered WaitingForInput" in message
    assert message.endswith("pytest tests/scenarios --rewrite-scenarios")
    assert path.read_text(encoding="utf-8") == wrong


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace("WaitingForInput", "Success"),
        SMALL.replace("state: idle\n", ""),
        SMALL.replace("----\nstate: idle\n", ""),
        SMALL.replace("state: idle\n", "state: idle\nstate: done\n"),
    ],
    ids=["other", "missing", "no rule", "more"],
)
def test_a_transcript_is_rewritten_when_it_is_asked_for(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    compare(path, rewrite=True)
    assert path.read_text(encoding="utf-8") == SMALL


def test_the_option_rewrites_and_its_absence_does_not(pytester: pytest.Pytester) -> None:
    pytester.copy_example(str(FOLDER / "conftest.py"))
    wrong = pytester.path / "small.txt"
    wrong.write_text(SMALL.replace("idle", "done"), encoding="utf-8")
    pytester.makepyfile(
        "from pathlib import Path\nfrom tests.scenarios.test_scenarios import compare\n"
        "def test_it(request):\n"
        "    compare(Path('small.txt'), rewrite=request.config.getoption('--rewrite-scenarios', default=False))\n"
    )
    root = f"pythonpath={FOLDER.parents[1]}"
    refused = pytester.runpytest_subprocess("-o", root)
    refused.assert_outcomes(failed=1)
    refused.stdout.fnmatch_lines(["-state: done", "+state: idle"])
    assert wrong.read_text(encoding="utf-8") != SMALL
    pytester.runpytest_subprocess("-o", root, "--rewrite-scenarios").assert_outcomes(passed=1)
    assert wrong.read_text(encoding="utf-8") == SMALL


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("poll(0)", "pol(0)", "small.txt, line 12: 'pol' is not one of: open, send, poll"),
        ("poll(0)", "poll(0) with check=nixlOops", "line 12: 'nixlOops' is not one of: nixlNotPostedError"),
        ("poll(0)", "poll(1)", r"line 12: 'poll\(1\)' makes no sense here"),
        ("poll(0)", "restart(0)", r"line 12: 'restart\(0\)' makes no sense here"),
        ("poll(0)", "setup: rooms of 1 pages, 1 peer", "line 12: 'setup' comes a second time"),
        ("poll(0)", "min(0, 1)", "line 12: '1' is no room that is open"),
        ("poll(0)", "min(0)", "line 12: room 0 has not been polled"),
        ("1 peer", "9 peers", "line 3: the setup has 9 peers; the kit runs 1 to 4"),
        ("1 peer", "1 pear", "line 3: '1 pear' is no part of a setup"),
        ("setup: rooms of 1 pages, 1 peer", "open(0)", "line 3: there is no setup yet"),
    ],
)
def test_what_is_no_command_is_an_error_with_file_line_and_word(old: str, new: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run_scenario(parse("small.txt", SMALL.replace(old, new)), adapter)


BROKEN: Final = """\
# Clauses: KS-1.1
setup: rooms of 1 pages, 1 peer

open(0)

send(0) with post=nixlNotFoundError
"""


def test_no_transcript_is_made_of_a_broken_clause() -> None:
    run_scenario(parse("broken.txt", BROKEN), adapter)
    with pytest.raises(ScenarioError, match=r"broken.txt, line 6: send\(0\) with .* breaks a clause") as caught:
        run_scenario(parse("broken.txt", BROKEN), after_the_fix)
    assert "!      breaks KS-1.2 CATCH-SET (MUST)" in str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("name", "broken", "clause"),
    [
        ("r01-refilled-grant", "NeverLooksAtTheGrant", "KS-3.1"),
        ("r02-refill-under-way", "TakesAStampUnderWay", "KS-3.1"),
        ("r03-nothing-to-read", "LeavesTheEndToItsReads", "KS-6.1"),
        ("r04-holder-dies", "RecomputesAtOnce", "KS-4.1"),
        ("r05-silent-holder", "WaitsForAHolderForEver", "KS-3.4"),
        ("r06-late-bytes", "ReleasesOnAbort", "KS-4.2"),
        ("r08-last-pages-wanted", "ReadsTheFirstPages", "KS-3.1"),
        ("r09-told-when-the-bytes-are-here", "TellsTheEndAtThePost", "KS-6.1"),
        ("r10-holder-restarted", "ListsOutliveTheirHolder", "KS-3.5"),
        ("r11-sibling-in-flight", "FirstErrorEndsTheRoom", "KS-4.1"),
    ],
)
def test_a_broken_reader_breaks_what_a_scenario_shows(name: str, broken: str, clause: str) -> None:
    (mutant,) = (mutant for mutant in READERS if mutant.name == broken)
    path = FOLDER / f"{name}.txt"
    with pytest.raises(ScenarioError, match=rf"breaks a clause\n(.*\n)*! +breaks {clause} "):
        run_scenario(parse(path.name, path.read_text(encoding="utf-8")), mutant.adapter)


def test_a_reader_is_told_to_read() -> None:
    text = SMALL.replace("rooms of", "reads of").replace("decode0", "prefill0").replace("poll(0)", "send(0)")
    with pytest.raises(ScenarioError, match=r"line 12: 'send\(0\)' is no step: did you mean 'read\(0\)'"):
        run_scenario(parse("small.txt", text), reader)


def test_a_clause_that_is_not_shown_fails(tmp_path: Path) -> None:
    path = written(tmp_path, "# Clauses: KS-1.1, KS-6.3\n" + SMALL)
    with pytest.raises(pytest.fail.Exception, match=r"is said to show .*KS-6.3, but nothing of the kind was observed"):
        compare(path, rewrite=True)


def test_a_call_of_another_thread_is_told_apart() -> None:
    commands = ["open(0)", "send(0)", "poll(0) overlapping abort from another thread at check"]
    text = "\n\n".join(["setup: rooms of 1 pages, 1 peer", *commands])
    transcript = run_scenario(parse("overlap.txt", text), adapter)[0].rpartition("----\n")[2].splitlines()
    assert [line for line in transcript if line.startswith("caller")] == [
        "caller: answered Transferring",
        "caller, in thread 1: returned",
    ]
    assert transcript[-1] == "state: failed (aborted)"
