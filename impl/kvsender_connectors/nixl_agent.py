"""The scripted agent under the calls that SGLang's managers make beside those of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.contract import Operation
from kvsender_spec.history.recording_agent import Through
from kvsender_spec.kit.scripted.copies import Indices, Region, Rows
from kvsender_spec.kit.scripted.fabric import ScriptedAgent, ScriptedDescs, ScriptedDlist, ScriptedHandle

BACKEND: Final = "UCX"


class HostMemoryAgent(Through[ScriptedDlist, ScriptedHandle]):
    """Device memory is the host's here: there is no GPU, and the kit's peers register host memory."""

    def __init__(self, agent: ScriptedAgent) -> None:
        super().__init__(agent)
        self._agent: Final = agent
        self.initialize_xfer: Final = agent.initialize_xfer

    def create_backend(self, backend: str, parameters: object) -> None:
        pass

    def get_plugin_list(self) -> list[str]:
        return [BACKEND]

    def register_memory(self, reg_list: Sequence[tuple[int, int, int, str]], mem_type: str) -> list[Region]:
        return self._agent.register_memory(reg_list, "DRAM")

    def get_xfer_descs(self, descs: Rows | Sequence[tuple[int, int, int]], mem_type: str) -> ScriptedDescs:
        return self._agent.get_xfer_descs(descs, "DRAM")

    def prep_xfer_dlist(
        self, agent_name: str, xfer_list: Rows | Sequence[tuple[int, int, int]], mem_type: str
    ) -> ScriptedDlist:
        return self._agent.prep_xfer_dlist(agent_name, xfer_list, "DRAM")

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: ScriptedDlist,
        local_indices: Indices | Sequence[int],
        remote_xfer_side: ScriptedDlist,
        remote_indices: Indices | Sequence[int],
        notif_msg: bytes = b"",
        **_options: object,
    ) -> ScriptedHandle:
        return self._agent.make_prepped_xfer(
            operation, local_xfer_side, local_indices, remote_xfer_side, remote_indices, notif_msg
        )
