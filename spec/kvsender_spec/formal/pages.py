"""Writes the models of the other engines, for readers: ``python -m kvsender_spec.formal.pages [DIRECTORY]``.

They go into ``formal/`` of the directory, or of docs/. A test fails when the files in the repository are not what this
module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from kvsender_spec.formal import grant
from kvsender_spec.formal.engines import promela, tla
from kvsender_spec.formal.model.state import Bounds
from kvsender_spec.formal.rules import SPEC
from kvsender_spec.formal.targets import tla as target_tla

BOUNDS: Final = Bounds(2, 2)
"""Small enough for every reader's machine, large enough for what two chunks and two peers can do to each other."""


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "KVSender.tla": lambda: tla.module(SPEC),
    "KVSender.cfg": lambda: tla.config(BOUNDS),
    "KVGrant.tla": grant.module,
    "KVGrant.cfg": grant.config,
    "KVTarget.tla": target_tla.module,
    "KVTarget.cfg": target_tla.config,
    "kvsender.pml": lambda: promela.model(SPEC, BOUNDS),
}


def main() -> None:
    """Write the files into ``formal/`` of the directory that is named, or of docs/."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs") / "formal"
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
