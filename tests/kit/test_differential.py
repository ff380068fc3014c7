"""The differential run finds nothing between NIXL and the scripted agent, and finds each lie that is planted."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import Phase
from tests.kit.differential import Differential, run

from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_spec.kit.scripted.copies import Rows, ScriptedDlist
from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent, ScriptedHandle

PROGRAMS = 80
MOST_PROGRAMS = 400
"""Within which a lie must be found; each takes some tens of programs."""


@pytest.fixture(autouse=True)
def _nixl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NIXL_ENV.items():
        monkeypatch.setenv(name, value)
    if "torch" not in sys.modules:
        monkeypatch.setitem(sys.modules, "torch", None)


def test_nothing_differs() -> None:
    run(Differential, programs=PROGRAMS, number=1)
    for operation in ("WRITE", "READ"):
        assert Differential.answers[f"transfer {operation}: DONE"] > 5, "programs that transfer nothing compare nothing"


class KnowsItself(ScriptedAgent):
    def check_remote_metadata(self, agent: str) -> bool:
        return agent in self.links


class PreparesAnything(ScriptedAgent):
    def prep_xfer_dlist(
        self, agent_name: str, xfer_list: Rows | Sequence[tuple[int, int, int]], mem_type: str
    ) -> ScriptedDlist:
        self.regions.append((0, 1 << 62, 0, "DRAM"))
        try:
            return super().prep_xfer_dlist(agent_name, xfer_list, mem_type)
        finally:
            self.regions.pop()


class SendsNothing(ScriptedAgent):
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        if remote_agent_name not in self.links:
            super().send_notif(remote_agent_name, notif_msg)


class LandsHalf(Fabric):
    def finish(self, handle: ScriptedHandle) -> None:
        """The second half of the bytes is as it was."""
        kept = [(target, ctypes.string_at(target, length)) for _, (target, length) in handle.copy.pairs]
        super().finish(handle)
        for target, before in kept[len(kept) // 2 :]:
            ctypes.memmove(target, before, len(before))


def lying(lie: type[ScriptedAgent]) -> type[Fabric]:
    class Lying(Fabric):
        def start(self, name: str, generation: int, scripted: bool) -> ScriptedAgent:
            return lie(self, name, generation, scripted)

    return Lying


@pytest.mark.parametrize(
    "fabric",
    [lying(KnowsItself), lying(PreparesAnything), lying(SendsNothing), LandsHalf],
    ids=["knows itself", "prepares anything", "sends nothing", "lands half"],
)
def test_a_lie_is_found(fabric: type[Fabric]) -> None:
    class Lied(Differential):
        answers: ClassVar[Counter[str]] = Counter()

    Lied.fabric = fabric
    with pytest.raises(AssertionError, match=r"NIXL|memory"):
        run(Lied, programs=MOST_PROGRAMS, number=1, phases=[Phase.generate])


def test_the_command_says_how_much_it_compared() -> None:
    command = [sys.executable, "-m", "tests.kit.differential", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("nothing differs")
