"""The HTML page: what comes first, that it needs nothing from elsewhere, and how a real browser shows it."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import jinja2
import pytest
from tests.report.made import (
    HOSTILE,
    OTHER_TRACE,
    breaking,
    evidence,
    failing,
    hostile,
    passing,
    success_after_failure,
    undecided,
)
from tests.report.made import broken as failed

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.observe.verdict import Report, SuiteSummary, Verdict
from kvsender_spec.report.html import to_html
from kvsender_spec.report.templating import fill

ALL = (passing, failing, undecided, breaking, hostile)
IDS = [clause.id for clause in CLAUSES]
VOID = {"meta"}


class Page(HTMLParser):
    """Walks a page, and asserts on the way that every element that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[str] = []
        self.folded: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(key, value or "") for key, value in attrs]
        for key, value in attrs:
            if key == "data-clause":
                (self.folded if "details" in self.open else self.rows).append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.attributes if name == key]


def with_verdict(report: Report, verdict: Verdict) -> Report:
    return replace(report, verdicts=tuple(verdict if v.clause is verdict.clause else v for v in report.verdicts))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    source = to_html([make() for make in ALL])
    page = Page(source)
    assert sorted(page.rows + page.folded) == sorted(IDS * len(ALL))
    assert page.values("data-matrix") == IDS
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    assert page.values("src") == []
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.values("content")
    assert "url(" not in source
    assert "@import" not in source
    anchors = page.values("id")
    assert len(anchors) == len(set(anchors)) > 0
    assert {link.removeprefix("#") for link in page.values("href")} <= set(anchors)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\x00" not in source
    assert source.encode("utf-8")


def test_hostile_texts_are_shown_as_texts() -> None:
    text = Page(to_html([hostile(), passing()])).text
    shown = HOSTILE.replace("\x00", "\\x00").replace("\x1b", "\\x1b").replace("\ud800", "\\ud800")
    assert text.count(shown) > 10
    assert len(to_html([hostile()])) < 300_000


def test_causes_come_before_the_table_and_failed_rows_first() -> None:
    page = Page(to_html([failing()]))
    places = [
        page.text.index(words)
        for words in (
            "Does not conform: 4 MUST clauses failed.",
            "profile quiescent (the adapter claims full) · seed 0 · 100 runs · 1234 steps",
            "KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST); with it KS-1.2, KS-3.1",
            "broken only after KS-2.2: expected equal bytes",
            "KS-6.1 NOTIFY-PEER (MUST)",
            "KS-8.1 BAD-INPUT: not claimed; broken 2 of 4; first by",
            "requirement, and where it comes from",
            "2 clauses that are not claimed or do not apply",
        )
    ]
    assert places == sorted(places)
    assert page.rows[:5] == ["KS-2.2", "KS-1.2", "KS-3.1", "KS-6.1", "KS-1.1"]
    assert page.folded == ["KS-7.1", "KS-7.2"]
    assert page.values("data-matrix") == []


def test_a_group_is_one_article_and_a_trace_one_diagram() -> None:
    report = failing()
    page = Page(to_html([report]))
    assert (page.tags["article"], page.tags["svg"]) == (2, 1)
    history, shown = success_after_failure()
    own = failed("KS-3.1", evidence("KS-3.1", shown, history, OTHER_TRACE, after="KS-2.2"))
    page = Page(to_html([with_verdict(report, own)]))
    assert (page.tags["article"], page.tags["svg"]) == (2, 2)
    assert "What shows KS-3.1" in page.text
    for words in ("The same run in words", "!      breaks KS-1.2 CATCH-SET (MUST)".replace("      ", " ")):
        assert words in page.text


def test_tiles_and_badges_link_to_what_they_count() -> None:
    links = Counter(Page(to_html([failing()])).values("href"))
    assert links["#report-0-broken"] == 2
    assert links["#report-0-clauses"] == 2
    assert links["#report-0-unclaimed"] == links["#report-0-folded"] == 1
    assert links["#report-0-KS-3.1"] == 1


def test_a_history_without_a_trace_is_drawn() -> None:
    history, shown = success_after_failure()
    found = evidence("KS-2.2", shown, history, None, where="prefill.ndjson")
    page = Page(to_html([with_verdict(passing(), failed("KS-2.2", found))]))
    assert page.tags["svg"] == 1
    assert "What was seen in prefill.ndjson" in page.text
    assert "for kvsender replay" not in page.text


def test_the_verdict_is_the_first_thing_said() -> None:
    assert "Conforms: every MUST clause that applies passes." in to_html([passing()])
    assert "Undecided: no MUST clause failed" in to_html([undecided()])
    assert "strict: a SHOULD counts as a MUST" in to_html([hostile()])
    text = Page(to_html([breaking()])).text
    assert text.count("The adapter broke: open raised OSError: no such device") == 1
    assert text.count("adapter.py:12 in open") == 1


def test_the_complete_suite_is_shown() -> None:
    suite = SuiteSummary(passing().verdicts[0].outcome, ("complete suite: pass: 3 sequences", "  poll; poll"), {})
    text = Page(to_html([replace(passing(), suite=suite)])).text
    assert "✓ pass complete suite: pass: 3 sequences poll; poll" in text


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'names' is undefined"):
        fill("page.html.jinja", sections=[], matrix=[], release="")


def test_the_templates_are_data_of_the_package() -> None:
    names = {entry.name for entry in (files("kvsender_spec.report") / "templates").iterdir()}
    assert names == {"page.html.jinja", "page.css", "picture.svg.jinja", "machines.css"}


# ------------------------------------------------------------------------------------------------ a real browser


def chromium(profile: Path, *arguments: str) -> str:
    found = shutil.which("chromium")
    assert found is not None, "this test looks at the page in a browser: apt-get update && apt-get install -y chromium"
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, f"--user-data-dir={profile}")
    done = subprocess.run([found, *options, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(to_html([make() for make in ALL]), encoding="utf-8")
    chromium(tmp_path / "a", "--window-size=1280,3000", f"--screenshot={picture}", path.as_uri())
    image = picture.read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", image[16:24]) == (1280, 3000)
    assert len(image) > 100_000
    # Row by row, PNG stores how a pixel differs from its neighbours: an image of one colour has a handful of values.
    assert len(set(pixels(image))) > 100
    dom = Page(chromium(tmp_path / "b", "--dump-dom", path.as_uri()))
    written = Page(path.read_text(encoding="utf-8"))
    assert (dom.tags, dom.rows, dom.folded) == (written.tags, written.rows, written.folded)


MEASURE = """
<script>addEventListener("load", () => {
  const frame = document.querySelector("iframe").contentDocument, page = frame.documentElement
  const rules = [...frame.querySelectorAll(".rule")].filter(rule => rule.checkVisibility())
  const widest = Math.max(...rules.map(rule => rule.getBoundingClientRect().right))
  const narrowest = Math.min(...rules.map(rule => rule.getBoundingClientRect().width))
  const scrolls = [...frame.querySelectorAll("figure .scroll")].filter(box => box.scrollWidth > box.clientWidth)
  document.title = [page.scrollWidth, Math.ceil(widest), Math.floor(narrowest), scrolls.length].join(" ")
})</script>
"""


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(width: int, tmp_path: Path) -> None:
    # Headless chromium has windows of 500 pixels at least, so the page is measured in a frame. Scripts run beside the
    # page, never in it.
    (tmp_path / "report.html").write_text(to_html([make() for make in ALL]), encoding="utf-8")
    frame = f'<iframe src="report.html" width="{width}" height="3000" style="border:0"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html><title></title>{frame}{MEASURE}", encoding="utf-8")
    shown = chromium(tmp_path / "c", "--allow-file-access-from-files", "--dump-dom", (tmp_path / "frame.html").as_uri())
    found = re.search("<title>([0-9 ]+)</title>", shown)
    assert found is not None, shown
    page, right, narrowest, scrolling = map(int, found[1].split())
    assert page <= width
    assert right <= width
    assert narrowest >= 300
    assert (scrolling > 0) is (width == 400)


def pixels(image: bytes) -> bytes:
    """The filtered rows of a PNG."""
    data, at = b"", 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        if image[at + 4 : at + 8] == b"IDAT":
            data += image[at + 8 : at + 8 + length]
        at += length + 12
    return zlib.decompress(data)
