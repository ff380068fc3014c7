"""The JSON Schema of the project file, which editors can check it with: ``docs/project.schema.json``."""

from __future__ import annotations

from typing import Final

import msgspec

from kvsender_spec.project import FILE, Settings

PATH: Final = "project.schema.json"


def project_schema() -> str:
    """Of kvsender.toml, and of [tool.kvsender] in pyproject.toml."""
    found = msgspec.json.schema(Settings)
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FILE, **found}
    return msgspec.json.format(msgspec.json.encode(titled), indent=2).decode() + "\n"
