"""What pytest gets from kvsender-spec in every project.

A marker, a line that says which version judges, and the fixture ``kvsender_history``, which records what a test does
with a sender. With ``--kvsender-history DIR`` the history of each such test is written to DIR and judged. Everything
that is not pytest is imported by the fixture, so that a project without it pays nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pluggy import Result

    from kvsender_spec.fronts.own.fixture import OwnHistory

_OPTION: Final = "kvsender_history"
_OWN: Final = pytest.StashKey["OwnHistory"]()
_PROPERTY: Final = "kvsender "
"""How the properties of a report begin. Reports come from the workers of pytest-xdist, too; JUnit files have them."""
_FILE: Final = f"{_PROPERTY}history"


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option: where the histories go, which also asks that they are judged."""
    parser.getgroup("kvsender", "senders of KV caches").addoption(
        "--kvsender-history",
        dest=_OPTION,
        metavar="DIR",
        help="write the history of each test that uses kvsender_history to DIR, and fail a test in which a MUST clause"
        " of the sender contract is broken",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that ``--strict-markers`` accepts it. Raises UsageError for a DIR that cannot be one."""
    config.addinivalue_line("markers", "kvsender_clause(id): the clause of the sender contract that this test judges")
    folder = _folder(config)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--kvsender-history: cannot write to {folder}: {error.strerror}") from error


def pytest_report_header() -> str:
    """Name the version, because a verdict is worth nothing without it."""
    return f"kvsender-spec: {version('kvsender-spec')}"


@pytest.fixture
def kvsender_history(request: pytest.FixtureRequest) -> OwnHistory:
    """Records what this test does with a sender: wrap its agent and then the sender (docs/own-tests.md)."""
    from kvsender_spec.fronts.own.fixture import OwnHistory

    own = request.node.stash[_OWN] = OwnHistory(request.node.nodeid)
    return own


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Result[None], None]:
    """Judge what the test has recorded, and fail a test that has passed otherwise where a MUST clause is broken.

    That is done here, and not when fixtures are torn down: the test itself fails then, xfail marks count, and a report
    of the test's own failure has the verdict beside it.
    """
    outcome = yield
    own, folder = item.stash.get(_OWN, None), _folder(item.config)
    if own is None or folder is None or not own.begun:
        return
    failure = _conclude(item, own, folder, None if outcome.excinfo is None else outcome.excinfo[1])
    if failure and outcome.excinfo is None:
        outcome.force_exception(pytest.fail.Exception(failure, pytrace=False))
    elif failure:
        item.add_report_section("call", "kvsender", failure)


def _conclude(item: pytest.Item, own: OwnHistory, folder: Path, raised: BaseException | None) -> str:
    """End the recording and judge it. Returns why the test fails; empty where it need not."""
    from kvsender_spec.fronts.own.judging import judge
    from kvsender_spec.history.ndjson import HistoryError

    history = own.end("" if raised is None else f"the test ended with {type(raised).__name__}")
    try:
        judgement = judge(history, folder, item.nodeid)
    except (HistoryError, OSError) as error:
        return f"the history of this test cannot be written: {error}"
    item.user_properties[:] = [one for one in item.user_properties if not one[0].startswith(_PROPERTY)]
    item.user_properties.append((_FILE, str(judgement.path)))
    item.user_properties += [(f"{_PROPERTY}{word}", clauses) for word, clauses in judgement.said]
    if not judgement.failure:
        return ""
    return f"{judgement.failure}  judge it again  kvsender trace check {judgement.path}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """For each test that has recorded: its file, and what became of the clauses."""
    found: dict[str, list[tuple[str, object]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                said = [one for one in report.user_properties if one[0].startswith(_PROPERTY)]
                found.update({report.nodeid: said} if said else {})
    if found:
        terminalreporter.section("kvsender histories")
    for test, said in sorted(found.items()):
        for name, value in said:
            head = f"{test}: " if name == _FILE else f"  {name.removeprefix(_PROPERTY):<19} "
            terminalreporter.write_line(f"{head}{value}")


def _folder(config: pytest.Config) -> Path | None:
    given: object = config.getoption(_OPTION)
    return Path(given) if isinstance(given, str) else None
