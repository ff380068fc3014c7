"""``kvsender baseline``: writes what fails now as known failures, so that a check turns red only for what is new.

Exit codes: 0 it was written, 2 the command was used wrongly or an adapter broke in every run, 130 it was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvsender_spec.adapter_arguments import plain_console, refusing
from kvsender_spec.check_command import (
    Examples,
    Jobs,
    Names,
    Seed,
    Strict,
    TheBudget,
    TheProfile,
    Verbose,
    plan,
    project_here,
)
from kvsender_spec.deviations import Deviation, DeviationError, read_baseline, to_write, write_baseline
from kvsender_spec.front import refuse, require_writable
from kvsender_spec.interrupts import Interrupts
from kvsender_spec.observe.verdict import INTERRUPTED
from kvsender_spec.project import BASELINE


def baseline_command(
    names: Names = None,
    output: Annotated[
        Path | None,
        typer.Option(help=f"where to write it [default: the project's baseline, or {BASELINE}]", show_default=False),
    ] = None,
    reason: Annotated[str, typer.Option(help="why the new ones fail")] = "",
    reference: Annotated[str, typer.Option(help="where more is said of the new ones, e.g. an issue")] = "",
    seed: Seed = None,
    budget: TheBudget = None,
    examples: Examples = None,
    profile: TheProfile = None,
    strict: Strict = False,
    jobs: Jobs = None,
    verbose: Verbose = False,
) -> None:
    """Write what fails now as known failures. Entries that are there already keep their reasons; stale ones go."""
    todo = plan(
        project_here(),
        names or (),
        seed=seed,
        budget=budget,
        examples=examples,
        profile=profile,
        strict=strict,
        jobs=jobs,
        verbose=verbose,
    )
    path = output or todo.project.baseline or todo.project.folder / BASELINE
    require_writable(path, "--output")
    with refusing(DeviationError):
        before = read_baseline(path) if path.exists() else ()
    with Interrupts() as stop:
        reports = list(todo.reports(stop, quiet=True))
    if stop.asked:
        raise typer.Exit(INTERRUPTED)
    for report in reports:
        if report.exit_code == 2:
            raise refuse(f"the adapter {report.adapter} broke in every run: {report.errors[0].message}")
    elsewhere = {(entry.adapter, entry.clause) for entry in todo.project.settings.deviations}
    after = [e for e in to_write(reports, before, reason=reason, reference=reference) if not _among(elsewhere, e)]
    try:
        write_baseline(path, after)
    except OSError as error:
        raise refuse(f"cannot write {path}: {error.strerror}") from error
    console = plain_console()
    for entry in after:
        console.print(f"{'known' if entry in before else 'new  '} {entry.clause} {entry.adapter}: {entry}")
    for entry in before:
        if entry not in after:
            console.print(f"stale {entry.clause} {entry.adapter}: {entry}")
    console.print(f"wrote {path}: known failures: {len(after)}")


def _among(elsewhere: set[tuple[str, str]], entry: Deviation) -> bool:
    """Whether the project file itself has it."""
    return bool(elsewhere & {("", entry.clause), (entry.adapter, entry.clause)})
