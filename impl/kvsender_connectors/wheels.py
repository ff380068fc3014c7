"""Installs the releases, each into a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kvsender_connectors.connectors import RELEASES
from kvsender_connectors.loading import folder

TIMEOUT_S: Final = 900.0


class InstallError(Exception):
    """pip could not install something; the message is its last words."""


def missing() -> list[str]:
    """The releases that are not installed."""
    return [release for release in RELEASES if not _marker(release).is_file()]


def install(say: Callable[[str], None]) -> None:
    """Install what is missing."""
    for release in missing():
        say(f"install sglang {release}, without its dependencies")
        _pip(release, f"sglang=={release}")


def _marker(release: str) -> Path:
    # pip writes it last, so that an install that was interrupted is not taken for one that was finished.
    return folder() / release / f"sglang-{release}.dist-info" / "RECORD"


def _pip(subfolder: str, requirement: str) -> None:
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    done = subprocess.run(
        (*command, "--upgrade", "--target", str(folder() / subfolder), requirement),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()
        raise InstallError(f"pip install {requirement}: {last[-1] if last else f'exit code {done.returncode}'}")
