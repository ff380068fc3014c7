"""The other fronts of a check: options, JUnit XML, and the HTML page, which is looked at in a real browser."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import pytest
from kvsender_spec.kit.drawing import machine, sequence
from kvsender_spec.kit.markup import printable, tag, text
from kvsender_spec.kit.report import to_json, worst_exit_code
from kvsender_spec.kit.report_html import to_html
from kvsender_spec.kit.report_junit import to_junit
from tests.kit.test_cli import kvsender
from tests.mutants.broken import BROKEN
from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem
from tests.mutants.seed import BeforeTheFix, SeedAdapter

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import World
from kvsender_spec.kit.check import Budget, Outcome, Report, check
from kvsender_spec.kit.run.drive import run_trace
from kvsender_spec.machine import NEXT, Profile, State
from kvsender_spec.trace import Call, Misuse, Progress, Scene, Step, Trace, load

HOSTILE = '</pre></svg><script src="http://evil.example/x.js">alert(1)</script>\x00\x1b]]>&amp;'


class Hostile(InlineSender):
    """Its errors try to get out of every kind of report."""

    def failure_exception(self) -> NoReturn:
        raise OSError(HOSTILE)


SMALL = InlineAdapter(InlineSender)


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return [
        check(SMALL, examples=60),
        check(SeedAdapter(BeforeTheFix), examples=60, profile=Profile.FULL),
        check(InlineAdapter(Hostile), examples=20, strict=True),
    ]


# ------------------------------------------------------------------------------------------------------- options


def test_another_profile_than_the_claimed_one_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ("check", "tests.mutants.seed:after_the_fix", "--examples", "5", "--json", str(path))
    done = kvsender(*arguments, "--profile", "full")
    assert "profile full (the adapter claims latch)" in " ".join(done.stdout.split())
    report = json.loads(path.read_text())
    assert (report["profile"], report["claims"]) == ("full", "latch")
    assert not any("not claimed" in row["note"] for row in report["clauses"])
    kvsender(*arguments)
    report = json.loads(path.read_text())
    assert (report["profile"], report["claims"]) == ("latch", "latch")
    assert any("not claimed by profile latch" in row["note"] for row in report["clauses"])


def test_a_should_that_fails_counts_only_when_it_is_asked_for(tmp_path: Path) -> None:
    arguments = ("check", "tests.mutants.seed:after_the_fix", "KS-2.8", "--junit", str(tmp_path / "junit.xml"))
    lenient = kvsender(*arguments)
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    assert "1 fail" in lenient.stdout
    assert counted(tmp_path / "junit.xml") == Counter(skipped=1)
    strict = kvsender(*arguments, "--strict")
    assert strict.returncode == 1
    assert counted(tmp_path / "junit.xml") == Counter(failure=1)


def test_a_budget_is_a_number_of_runs_and_examples_outweigh_it(tmp_path: Path) -> None:
    assert {budget.value: budget.examples for budget in Budget} == {"quick": 100, "ci": 1000, "nightly": 10_000}
    path = tmp_path / "report.json"
    arguments = ("check", "tests.mutants.inline:adapter", "--json", str(path))
    kvsender(*arguments, "--budget", "quick")
    assert 100 <= json.loads(path.read_text())["runs"] < 500
    kvsender(*arguments, "--budget", "nightly", "--examples", "3")
    assert json.loads(path.read_text())["runs"] < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--junit", "/nosuch/r.xml"), "cannot write to /nosuch/r.xml: No such file or directory; choose"),
        (("--html", "/nosuch/r.html"), "choose another --html path"),
        (("--html", "/"), "cannot write to /: Is a directory"),
        (("--profile", "most"), "Invalid value for '--profile'"),
        (("--budget", "some"), "Invalid value for '--budget'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_explored(arguments: tuple[str, ...], message: str) -> None:
    done = kvsender("check", "tests.mutants.inline:adapter", "--budget", "nightly", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------------------------- JUnit


def counted(path: Path) -> Counter[str]:
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return Counter(child.tag for case in cases for child in case)


def test_junit_agrees_with_the_exit_code(reports: list[Report]) -> None:
    for report in [*reports, check(SMALL, examples=1)]:
        root = ElementTree.fromstring(to_junit([report]))
        cases = list(root.iter("testcase"))
        assert [case.get("name") for case in cases] == [f"{v.clause.id} {v.clause.name}" for v in report.verdicts]
        children = Counter(child.tag for case in cases for child in case)
        for element in (root, root[0]):
            totals = {name: int(element.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")}
            assert totals == {
                "tests": len(report.verdicts),
                "failures": children["failure"],
                "errors": children["error"],
                "skipped": children["skipped"],
            }
        passed = len(report.with_outcome(Outcome.PASS))
        assert children.total() == len(cases) - passed
        expected = 1 if children["failure"] else 3 if children["error"] else 0
        assert report.exit_code == expected


def test_a_junit_failure_reads_alone_and_its_trace_can_be_loaded(reports: list[Report]) -> None:
    failures = list(ElementTree.fromstring(to_junit([reports[1]])).iter("failure"))
    assert len(failures) >= 4
    for failure in failures:
        assert "observed: " in failure.get("message", "")
        body = failure.text or ""
        assert "source: " in body
        assert "the owner: the call " in body
        assert load(body.partition("for kvsender replay:\n")[2].splitlines()).steps


def test_junit_holds_what_xml_cannot(reports: list[Report]) -> None:
    said = "".join(node.text or "" for node in ElementTree.fromstring(to_junit([reports[2]])).iter("failure"))
    assert "</svg><script" in said
    assert r"\x00\x1b]]>&amp;" in said


# ---------------------------------------------------------------------------------------------------------- HTML


class Page(HTMLParser):
    """Walks a page, and asserts on the way that every element that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[str] = []
        self.matrix: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(key, value or "") for key, value in attrs]
        self.rows += [value or "" for key, value in attrs if key == "data-clause"]
        self.matrix += [value or "" for key, value in attrs if key == "data-matrix"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.attributes if name == key]


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(reports: list[Report]) -> None:
    source = to_html(reports)
    page = Page(source)
    ids = [clause.id for clause in CLAUSES]
    assert page.rows == ids * len(reports)
    assert page.matrix == ids
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    assert page.values("src") == []
    assert "url(" not in source
    assert "@import" not in source
    anchors = page.values("id")
    assert len(anchors) == len(set(anchors)) > 0
    assert {link.removeprefix("#") for link in page.values("href")} == set(anchors)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\x00" not in source


def test_the_page_shows_what_broke(reports: list[Report]) -> None:
    report = reports[1]
    page = Page(to_html([report]))
    words = "".join(page.words)
    failed = report.with_outcome(Outcome.FAIL)
    pictured = [v for v in failed if v.counterexample is not None and v.counterexample.moments]
    assert len(pictured) >= 4
    assert page.tags["article"] == len(failed)
    assert page.tags["svg"] == 2 * len(pictured)
    assert page.matrix == []
    assert "profile full (the adapter claims latch)" in words
    assert f"Does not conform: {sum(report.counts(v) for v in failed)} MUST clauses failed." in words
    for verdict in failed:
        assert verdict.counterexample is not None
        assert verdict.clause.text in words
        assert verdict.clause.source in words
        assert verdict.counterexample.violation.observed in words


def test_the_verdict_is_the_first_thing_said(reports: list[Report]) -> None:
    assert "Conforms: every MUST clause that applies passes." in to_html([check(SMALL, clauses=["KS-1.4"])])
    assert "Undecided: no MUST clause failed" in to_html([check(SMALL, examples=1)])
    assert "strict: a SHOULD counts as a MUST" in to_html([reports[2]])


def test_everything_is_escaped() -> None:
    assert text('<&">') == "&lt;&amp;&quot;&gt;"
    assert tag("a", text("x"), class_="b", data_x="'\"", width=1.5) == (
        '<a class="b" data-x="&#x27;&quot;" width="1.5">x</a>'
    )
    assert printable("a\x00\ud800\n\tä😀\x7f\x9b") == "a\\x00\\ud800\n\tä😀\\x7f\\x9b"


# ------------------------------------------------------------------------------------------------------ pictures


def test_the_state_diagram_draws_every_arrow_of_the_table() -> None:
    drawn = str(machine())
    arrows = {(state, to) for state, row in NEXT.items() for to in row.values() if to is not None}
    assert drawn.count('<path d="M') == 2 * (len(arrows) + 1)  # an arrow is a line and a head; one leads to the start
    assert all(f">{state.value}</text>" in drawn for state in State)
    assert "walked" not in drawn


def test_the_state_diagram_shows_the_way_of_the_room_at_fault() -> None:
    steps = (Step(Call.OPEN, 0), Step(Call.OPEN, 1), Step(Call.SEND, 1, fault=Fault(Point.POST, Kind.BACKEND)))
    run = run_trace(SMALL, Trace(Scene(chunks=((1,), (1,))), (*steps, Step(Call.POLL, 1))))
    own = [moment for moment in run.record.moments if moment.incarnation == 1]
    # One send() fails it, one poll() reports it; the other room, which the owner aborts, is no part of the picture.
    assert str(machine(own)).count('<path d="M110 112V240H292" class="edge walked">') == 1
    assert str(machine(own)).count('<path d="M428 240H572" class="edge walked">') == 1
    assert str(machine(own)).count('<path d="M178 90H292" class="edge">') == 1
    assert str(machine(own)).count('class="node last"') == 2  # its box and its name
    run = run_trace(SMALL, Trace(Scene(), (Step(Call.OPEN), Step(Call.SEND))))
    assert 'd="M178 90H292" class="edge walked"' in machine(run.record.moments)
    assert 'd="M428 90H572" class="edge walked"' in machine(run.record.moments)


def test_the_sequence_diagram_tells_handles_peers_and_what_struck() -> None:
    scene = Scene(chunks=((1,), (1,)), peers=2)
    steps = (
        Step(Call.OPEN, 0),
        Step(Call.SEND, 0, misuse=Misuse.NEGATIVE_PAGE),
        Step(Call.SEND, 0),
        Step(Call.KILL, 1),
        Step(Call.POLL, 0, Progress.NEWEST),
    )
    run = run_trace(SMALL, Trace(scene, steps))
    page = Page(str(sequence(run.record.moments)))
    words = " ".join(page.words)
    for said in ("owner", "sender", "transport", "decode0", "decode1", "make handle 1 for decode1", "kill", "PROC"):
        assert said in words
    assert "5. poll(0) after newest finished" in words
    assert "raised KVUsageError" in words


def test_repeated_polls_of_the_end_are_drawn_once() -> None:
    class Waits(InlineSender):
        def poll(self) -> KVPoll:
            return KVPoll.WaitingForInput

    run = run_trace(InlineAdapter(Waits), Trace(Scene(), (Step(Call.OPEN), Step(Call.SEND))))
    assert [violation.clause for violation in run.findings.violations] == ["KS-3.4"]
    words = " ".join(Page(str(sequence(run.record.moments, "KS-3.4"))).words)
    assert "poll(0), 3 times alike" in words
    assert "KS-3.4 TERMINATES (MUST): expected a terminal answer within 3 polls" in words


# ------------------------------------------------------------------------------------------------ a real browser


def chromium(profile: Path, *arguments: str) -> str:
    found = shutil.which("chromium")
    assert found is not None, "this test looks at the page in a browser: apt-get update && apt-get install -y chromium"
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    done = subprocess.run(
        [
            found,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            *quiet,
            f"--user-data-dir={profile}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_shows_the_page(reports: list[Report], tmp_path: Path) -> None:
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(to_html(reports), encoding="utf-8")
    chromium(tmp_path / "a", "--window-size=1280,3000", f"--screenshot={picture}", path.as_uri())
    image = picture.read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", image[16:24]) == (1280, 3000)
    assert len(image) > 100_000
    # Row by row, PNG stores how a pixel differs from its neighbours: an image of one colour has a handful of values.
    assert len(set(pixels(image))) > 100
    dom = Page(chromium(tmp_path / "b", "--dump-dom", path.as_uri()))
    assert dom.rows == [clause.id for clause in CLAUSES] * len(reports)
    assert dom.matrix == [clause.id for clause in CLAUSES]
    assert dom.tags == Page(path.read_text(encoding="utf-8")).tags


def pixels(image: bytes) -> bytes:
    """The filtered rows of a PNG."""
    data, at = b"", 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        if image[at + 4 : at + 8] == b"IDAT":
            data += image[at + 8 : at + 8 + length]
        at += length + 12
    return zlib.decompress(data)


def test_the_command_writes_every_report(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.xml", "r.html")}
    done = kvsender(
        "check",
        "tests.mutants.seed:before_the_fix",
        "--examples=30",
        *(
            word
            for option, path in zip(("--json", "--junit", "--html"), files.values(), strict=True)
            for word in (option, str(path))
        ),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [row["id"] for row in json.loads(files["r.json"].read_text())["clauses"] if row["verdict"] == "fail"]
    assert counted(files["r.xml"])["failure"] == len(failed)
    assert Page(files["r.html"].read_text()).tags["article"] == len(failed)


def test_several_adapters_are_compared_and_the_worst_decides(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.xml", "r.html")}
    adapters = ("tests.mutants.inline:adapter", "tests.mutants.seed:after_the_fix")
    done = kvsender(
        *("check", adapters[0], "KS-4.1", adapters[1], "KS-1.2", "--budget=quick"),
        *("--json", str(files["r.json"]), "--junit", str(files["r.xml"]), "--html", str(files["r.html"])),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    matrix = [" ".join(line.split()) for line in done.stdout.partition("all adapters")[2].splitlines()]
    assert "│ KS-1.2 CATCH-SET │ pass │ fail │" in matrix
    assert "│ KS-4.1 QUIESCE-BEFORE-FREE │ pass │ - │" in matrix
    assert "│ verdict │ conforms │ does not conform │" in matrix
    document = json.loads(files["r.json"].read_text())
    assert (document["schema"], document["exit_code"]) == ("kvsender-reports/1", 1)
    assert [report["adapter"] for report in document["reports"]] == ["InlineSender", "AfterTheFix"]
    assert [report["exit_code"] for report in document["reports"]] == [0, 1]
    assert {report["schema"] for report in document["reports"]} == {"kvsender-report/1"}
    root = ElementTree.parse(files["r.xml"]).getroot()
    assert [suite.get("name") for suite in root] == ["kvsender check InlineSender", "kvsender check AfterTheFix"]
    assert counted(files["r.xml"]) == Counter(failure=1, skipped=1)
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "1")
    assert len(Page(files["r.html"].read_text()).matrix) == len(CLAUSES)


def test_the_worst_exit_code_is_a_failure(reports: list[Report]) -> None:
    undecided, good = check(SMALL, examples=1), check(SMALL, clauses=["KS-1.4"])
    assert [report.exit_code for report in (good, undecided, reports[1])] == [0, 3, 1]
    assert worst_exit_code([good, good]) == 0
    assert worst_exit_code([undecided, good]) == 3
    assert worst_exit_code([undecided, reports[1], good]) == 1


def test_an_adapter_that_breaks_is_shown_by_every_front() -> None:
    class Stumbles(InlineAdapter):
        def open(self, world: World) -> InlineSystem:
            raise OSError("no such device")

    report = check(Stumbles(), clauses=["KS-1.5"])
    assert report.exit_code == 3
    message = "open raised OSError: no such device"
    (document,) = [json.loads(to_json([report]))]
    assert message in document["errors"][0]["message"]
    case = ElementTree.fromstring(to_junit([report])).findall(".//testcase[@name='the adapter']/error")
    assert message in case[0].get("message", "")
    assert message in to_html([report])


def test_all_mutants_together_make_one_page() -> None:
    page = Page(to_html([check(InlineAdapter(mutant), examples=4) for mutant in BROKEN]))
    assert len(page.rows) == len(BROKEN) * len(CLAUSES)
