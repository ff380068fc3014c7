"""One file a family of clauses. A checker reads views and an event, never another checker."""

from __future__ import annotations

from typing import Final

from kvsender_spec.observe.checkers.base import Checker
from kvsender_spec.observe.checkers.ks1_errors import Errors
from kvsender_spec.observe.checkers.ks2_latch import Latch
from kvsender_spec.observe.checkers.ks3_outcome import Outcomes
from kvsender_spec.observe.checkers.ks4_pages import Pages
from kvsender_spec.observe.checkers.ks5_rooms import Rooms
from kvsender_spec.observe.checkers.ks6_acks import Acks
from kvsender_spec.observe.checkers.ks6_peers import Peers
from kvsender_spec.observe.checkers.ks7_threads import Threads
from kvsender_spec.observe.checkers.ks8_input import Misuses

CHECKERS: Final[tuple[type[Checker], ...]] = (Errors, Latch, Outcomes, Pages, Rooms, Peers, Acks, Threads, Misuses)
