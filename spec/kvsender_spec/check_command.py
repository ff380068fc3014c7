"""``kvsender check``: explores senders, and writes what came of it.

Exit codes: 0 every MUST clause that applies passes, 1 one fails, 2 the command was used wrongly or the adapter broke in
every run, 3 none fails but one could not be judged, or the adapter broke; of several adapters the worst counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kvsender_spec.adapter_arguments import load, plain_console, refusing
from kvsender_spec.choosing import UnknownClause, is_clause, select
from kvsender_spec.front import import_from_here, refuse, require_writable
from kvsender_spec.history.ndjson import write
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import LoadError, abilities
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.search.processes import in_processes
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Report, worst_exit_code
from kvsender_spec.report.text import render, render_matrix


def _load_all(names: Sequence[str], *, verbose: bool) -> list[Adapter]:
    """Every adapter, or a refusal before the first of them is explored."""
    if not names:
        raise refuse("names no adapter: write module:attribute, e.g. kvsender_nixl.adapter:adapter")
    adapters = [load(name, verbose=verbose) for name in names]
    for adapter in adapters:
        with refusing(LoadError), suppress(AdapterError):  # the latter is a verdict of its report
            abilities(adapter)
    titles = [adapter.name for adapter in adapters]
    for position, title in enumerate(titles):
        if title in titles[:position]:
            first = names[titles.index(title)]
            raise refuse(
                f"{first} and {names[position]} are both named {title!r}, and no report could tell them apart:"
                " give each adapter a name of its own"
            )
    return adapters


def check_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:ADAPTER... [CLAUSE]...",
            help="the adapters to check, and clauses for only these: KS-2.3, KS-2 or STICKY",
        ),
    ],
    seed: Annotated[int, typer.Option(help="the same command with the same seed explores the same")] = 0,
    budget: Annotated[Budget, typer.Option(help="random runs after the sweep: 100, 1000 or 10000")] = Budget.CI,
    examples: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="random runs, instead of a budget")] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="judge against this profile instead of the one the adapter claims")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")] = False,
    suite: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="run the complete suite for so many extra states as well; 0 takes seconds, 1 minutes",
        ),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the report there as JSON")] = None,
    junit_path: Annotated[Path | None, typer.Option("--junit", help="write it there as JUnit XML")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="write it there as one HTML page")] = None,
    histories: Annotated[
        Path | None, typer.Option("--histories", help="keep the history of each shortest failing run in this folder")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="processes; of several adapters each has one, and the reports are the same")
    ] = 1,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Explore senders on the scripted transport and print a verdict for each clause; several are compared as well."""
    console = plain_console()
    adapter_names = [name for name in names if not is_clause(name)]
    adapters = _load_all(adapter_names, verbose=verbose)
    with refusing(UnknownClause):
        wanted = select(name for name in names if is_clause(name))
    if suite is not None:
        _require_known(suite)
    for option, path in (("--json", json_path), ("--junit", junit_path), ("--html", html_path)):
        require_writable(path, option)
    if histories is not None:
        _make_folder(histories, "--histories")
    runs = examples or budget.examples
    checked = partial(check, seed=seed, examples=runs, clauses=wanted, profile=profile, strict=strict, suite=suite)
    found: Iterable[Report] = map(partial(_explored, checked, runs, jobs), adapter_names, adapters)
    if jobs > 1 and len(adapters) > 1:
        found = in_processes(partial(_checked_by_name, checked), adapter_names, jobs)
    reports: list[Report] = []
    with refusing(LoadError):
        for report in found:
            reports.append(report)
            render(report, console)
    if len(reports) > 1:
        render_matrix(reports, console)
    _write(reports, json_path, junit_path, html_path)
    if histories is not None:
        for kept in _keep(reports, histories):
            console.print(f"kept {kept}")
    raise typer.Exit(worst_exit_code(reports))


def _require_known(suite: int) -> None:
    from kvsender_spec.kit.search.complete import MOST_EXTRA

    if not 0 <= suite <= MOST_EXTRA:
        raise refuse(f"--suite takes 0 to {MOST_EXTRA} extra states, not {suite}")


def _write(reports: Sequence[Report], json_path: Path | None, junit_path: Path | None, html_path: Path | None) -> None:
    """Write what was asked for. What makes it is imported only then."""
    if json_path is not None:
        from kvsender_spec.report.json import to_json

        json_path.write_text(to_json(reports), encoding="utf-8")
    if junit_path is not None:
        from kvsender_spec.report.junit import to_junit

        junit_path.write_text(to_junit(reports), encoding="utf-8")
    if html_path is not None:
        from kvsender_spec.report.html import to_html

        html_path.write_text(to_html(reports), encoding="utf-8")


def _make_folder(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refuse(f"cannot write into {folder}: {error.strerror}; choose another {option} folder") from error
    require_writable(folder / ".kvsender", option)


def _keep(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write the history of each shortest failing run. Returns the files."""
    paths: list[Path] = []
    for report in reports:
        sender = "".join(letter if letter.isalnum() else "-" for letter in report.adapter)
        for found in report.verdicts:
            evidence = found.evidence
            if found.outcome.failed and evidence is not None and evidence.history is not None:
                paths.append(folder / f"{sender}.{found.clause.id}.ndjson")
                write(evidence.history, paths[-1])
    return paths


def _checked_by_name(checked: partial[Report], name: str) -> Report:
    """One of several checks, in a process of its own."""
    import_from_here()
    return checked(load_adapter(name))


def _explored(checked: partial[Report], runs: int, jobs: int, name: str, adapter: Adapter) -> Report:
    """One check, with a bar that shows how far it is where somebody may be looking."""
    here = partial(checked, adapter, jobs=jobs, load=partial(load_adapter, name))
    if not Console(stderr=True).is_terminal:
        return here()
    from kvsender_spec.progress import Bar

    with Bar(adapter.name, len(SWEEP) + runs) as bar:
        return here(on_run=bar.run, on_sequence=bar.sequence)
