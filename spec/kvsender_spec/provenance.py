"""What made a report: versions, the adapter's package, the command, and when."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from kvsender_spec.clauses import EVERY_CLAUSE
from kvsender_spec.observe.verdict import Provenance


def provenance(adapter: str, budget: str, command: Sequence[str] = ()) -> Provenance:
    """Of a report that is made now, on the adapter that is named so, ``module:attribute``. ``command``: the arguments
    of this process, if there are none."""
    said = command or [Path(sys.argv[0]).name, *sys.argv[1:]]
    return Provenance(
        kit=version_of("kvsender-spec"),
        contract=contract(),
        hypothesis=version_of("hypothesis"),
        python=platform.python_version(),
        package=_package(adapter.partition(":")[0].partition(".")[0]),
        budget=budget,
        command=shlex.join(said),
        adapter=adapter,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def contract() -> str:
    """A short name for the words of all clauses; other words have another one."""
    words = [f"{c.id} {c.name} {c.level.value} {c.profile.value} {c.text}" for c in EVERY_CLAUSE]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def version_of(package: str) -> str:
    """The version of an installed package; "unknown" for one that is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _package(module: str) -> str:
    """The installed packages that hold the module, with their versions."""
    found = sorted(set(packages_distributions().get(module, ())))
    return ", ".join(f"{name} {version_of(name)}" for name in found)
