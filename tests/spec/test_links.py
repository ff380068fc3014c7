"""Every relative link of every page leads to a file that is there, and to a heading that is there."""

from __future__ import annotations

from pathlib import Path

from tests.spec.links import anchors, broken, links, pages

ROOT = Path(__file__).parents[2]


def test_every_relative_link_leads_somewhere() -> None:
    found = [page.relative_to(ROOT).as_posix() for page in pages(ROOT)]
    assert {"README.md", "CHANGELOG.md", "docs/plug-in/start.md", "docs/records/connectors.md"} <= set(found)
    assert list(broken(ROOT)) == []


def test_a_link_that_leads_nowhere_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "hidden.md").write_text("[x](nowhere.md)")
    (tmp_path / "docs" / "there.md").write_text("# A `word` (KS-1.1)\n\n## Twice\n\n## Twice\n\n[up](../README.md)\n")
    (tmp_path / "README.md").write_text(
        "[good](docs/there.md) [good](docs) [good](docs/there.md#a-word-ks-11) [good](docs/there.md#twice-1)\n"
        "[web](https://example.org/nowhere.md) [mail](mailto:a@example.org) `[code](code.md)`\n\n"
        "```\n[code](code.md)\n```\n\n"
        "| cell |\n| --- |\n| [a](docs/gone.md) |\n\n"
        "[b](docs/there.md#thrice) [c](#nothing) ![d](gone.png) [e][far]\n\n[far]: ../../etc/passwd\n"
    )
    assert list(broken(tmp_path)) == [
        "README.md: docs/gone.md: no such file",
        "README.md: docs/there.md#thrice: no such heading",
        "README.md: #nothing: no such heading",
        "README.md: gone.png: no such file",
        "README.md: ../../etc/passwd: leads out of the repository",
    ]


def test_links_and_anchors_are_read_as_they_are_shown() -> None:
    assert links('[a](b.md "title") <https://c.org> ![d](e.png)\n\n    [code](f.md)\n') == [
        "b.md",
        "https://c.org",
        "e.png",
    ]
    assert anchors("# KS-2.3 FIRST-CAUSE\n\nfailure_exception\n===\n\n### What *it* is?\n") == {
        "ks-23-first-cause",
        "failure_exception",
        "what-it-is",
    }
