"""The project file: what ``kvsender check`` does without arguments.

It is the table ``[tool.kvsender]`` of a pyproject.toml, or a file kvsender.toml that holds the same at its top; the
nearest one counts, in the folder of the caller or above it. What a command line says comes before what it says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from kvsender_spec.deviations import Deviation, DeviationError, read_baseline, require_sense
from kvsender_spec.kit.check import Budget
from kvsender_spec.machine import Profile

FILE: Final = "kvsender.toml"
BASELINE: Final = "kvsender-baseline.toml"
"""Where ``kvsender baseline`` writes if nothing says otherwise."""
_Some = Annotated[int, msgspec.Meta(ge=1)]


class ProjectError(ValueError):
    """A project file that cannot be read, or that says what cannot be; the message names the file and the value."""


class Outputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where reports go, as paths from the folder of the project file."""

    json: str = ""
    junit: str = ""
    html: str = ""
    badge: str = ""
    histories: str = ""
    """A folder."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[tool.kvsender]``."""

    adapters: tuple[str, ...] = ()
    """``module:attribute``, or ``path/to/module.py:attribute``."""
    pythonpath: tuple[str, ...] = (".",)
    """Folders in which their modules are found, from the folder of the project file."""
    clauses: tuple[str, ...] = ()
    """Only these: KS-2.3, KS-2 or STICKY."""
    profile: Profile | None = None
    """Judge against this profile instead of the one that an adapter claims."""
    budget: Budget = Budget.CI
    seed: int = 0
    strict: bool = False
    """A SHOULD that fails counts as a MUST."""
    jobs: _Some = 1
    """Processes."""
    reports: Outputs = Outputs()
    baseline: str = ""
    """A file of known failures; unless it is named, kvsender-baseline.toml beside the project file, if there is one."""
    deviations: tuple[Deviation, ...] = ()
    """Known failures that stand in the project file itself."""


class _Tool(msgspec.Struct, frozen=True):
    kvsender: Settings | None = None


class _PyProject(msgspec.Struct, frozen=True):
    tool: _Tool = _Tool()


@dataclass(frozen=True, slots=True)
class Project:
    """What was found, and where."""

    settings: Settings
    folder: Path
    file: Path | None
    """None: there is no project file."""

    def path(self, name: str) -> Path | None:
        """A path that the project file names; None for the empty name."""
        return self.folder / name if name else None

    @property
    def baseline(self) -> Path | None:
        """The file of known failures; None where there is none. One that is named need not exist yet."""
        default = self.folder / BASELINE
        return self.path(self.settings.baseline) or (default if default.exists() else None)

    def known(self, baseline: Path | None) -> tuple[Deviation, ...]:
        """All known failures: those of the project file, and those of this baseline, if it is there.

        Raises DeviationError, also for a clause that both of them have.
        """
        listed = () if baseline is None or not baseline.exists() else read_baseline(baseline)
        known = (*self.settings.deviations, *listed)
        require_sense(known, str(baseline or self.file))
        return known

    def import_from_here(self) -> None:
        """Make the modules importable that the project file names."""
        for name in self.settings.pythonpath if self.file is not None else ():
            folder = str((self.folder / name).resolve())
            if folder not in sys.path:
                sys.path.insert(0, folder)


def find_project(start: Path) -> Project:
    """The project file of a folder. Raises ProjectError, which names the file, for one that cannot be used."""
    for folder in (start, *start.parents):
        for file in (folder / FILE, folder / "pyproject.toml"):
            settings = _read(file) if file.is_file() else None
            if settings is not None:
                return Project(settings, folder, file)
    return Project(Settings(), start, None)


def _read(file: Path) -> Settings | None:
    """What the file says; None for a pyproject.toml without the table."""
    try:
        settings: Settings | None
        if file.name == FILE:
            settings = msgspec.toml.decode(file.read_bytes(), type=Settings)
        else:
            settings = msgspec.toml.decode(file.read_bytes(), type=_PyProject).tool.kvsender
    except (OSError, UnicodeError, msgspec.DecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ProjectError(f"{file}: {said}") from error
    if settings is not None:
        try:
            require_sense(settings.deviations, str(file))
        except DeviationError as error:
            raise ProjectError(str(error)) from error
    return settings
