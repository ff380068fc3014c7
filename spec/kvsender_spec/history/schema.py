"""The JSON Schema of a history's lines, for those who write histories in another language.

It says what msgspec enforces: the form of a line. What a line may refer to is said in ``kvsender_spec.history.ndjson``.
"""

from __future__ import annotations

import json
from inspect import cleandoc

import msgspec

from kvsender_spec.history.events import AnyEvent
from kvsender_spec.history.header import Header


def schema() -> dict[str, object]:
    """The first line of a file is a ``Header``; every other line is one of the events. Deterministic."""
    (first, other), definitions = msgspec.json.schema_components([Header, AnyEvent], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        definition["description"] = cleandoc(definition["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of a kvsender history: the header in the first line, one event in every other",
        "anyOf": [first, other],
        "$defs": definitions,
    }


def schema_page() -> str:
    """The schema as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
