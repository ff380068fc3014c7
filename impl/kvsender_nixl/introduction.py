"""Who an initiator is: what a target needs in order to ask it, and to know when it has ended."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from kvsender_nixl.notifications import token_of
from kvsender_nixl.wire import bytes_field, envelope, fields_of, str_field
from kvsender_nixl.witness import ProcessIdentity, Question, Statement, identity_from_json, question_or_statement


@dataclass(frozen=True, slots=True)
class Introduction:
    """A prefill side, or a reader: its NIXL agent, and which process of the agent's name it is. ``incarnation`` is 1 to
    64 letters, digits or ``._:-``; ``process`` is None where it does not know."""

    agent_name: str
    agent_metadata: bytes
    incarnation: str
    process: ProcessIdentity | None = None

    def to_bytes(self) -> bytes:
        return envelope(
            "initiator",
            {
                "agent_name": self.agent_name,
                "agent_metadata": base64.b64encode(self.agent_metadata).decode(),
                "agent_metadata_sha256": hashlib.sha256(self.agent_metadata).hexdigest(),
                "incarnation": self.incarnation,
                "process": None if self.process is None else self.process.to_json(),
            },
        )


def parse_introduction(message: bytes) -> Introduction | Question | Statement:
    """Read what an initiator says of itself or of a process; raises ValueError for anything else."""
    fields = fields_of(message)
    about_a_process = question_or_statement(fields)
    if about_a_process is not None:
        return about_a_process
    if fields.get("kind") != "initiator":
        raise ValueError(f"unknown kind {fields.get('kind')!r}")
    blob = bytes_field(fields, "agent_metadata")
    if hashlib.sha256(blob).hexdigest() != str_field(fields, "agent_metadata_sha256"):
        raise ValueError("agent_metadata is damaged: its sha256 does not match")
    name = str_field(fields, "agent_name")
    if not name:
        raise ValueError("agent_name is empty")
    incarnation = token_of(str_field(fields, "incarnation"))
    return Introduction(name, blob, incarnation, identity_from_json(fields.get("process")))
