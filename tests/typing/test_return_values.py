"""What NIXL's Python API really returns, against what the stub says it returns.

stubtest compares no returned types, and NIXL annotates few of them. One loopback transfer on the CPU tells.
"""

import ast
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nixl._api import nixl_agent

from kvsender_nixl.lab.process import NIXL_ENV

STUB = Path(__file__).parents[2] / "stubs" / "nixl" / "_api.pyi"

LOOPBACK = """
import json
import numpy as np
from nixl._api import nixl_agent, nixl_agent_config

seen = {}

def note(name, value):
    seen[name] = type(value).__name__
    return value

# Without progress threads nothing moves behind our back, and each call of get_new_notifs moves one side.
near, far = (
    nixl_agent(name, nixl_agent_config(enable_prog_thread=False, capture_telemetry=True)) for name in ("near", "far")
)
source, target = np.full(8192, 7, np.uint8), np.zeros(8192, np.uint8)
regions = [
    note("register_memory", agent.register_memory([(array.ctypes.data, array.nbytes, 0, "")], "DRAM"))
    for agent, array in ((near, source), (far, target))
]
note("add_remote_agent", near.add_remote_agent(note("get_agent_metadata", far.get_agent_metadata())))
note("check_remote_metadata", near.check_remote_metadata("far"))
note("make_connection", near.make_connection("far"))

def pages(array):
    return np.array([[array.ctypes.data + at, 4096, 0] for at in (0, 4096)], dtype=np.uint64)

sides = [note("get_xfer_descs", near.get_xfer_descs(pages(array), "DRAM")) for array in (source, target)]
note("initialize_xfer", near.initialize_xfer("WRITE", *sides, "far")).release()
note("get_reg_descs", near.get_reg_descs(pages(source), "DRAM"))
local = note("prep_xfer_dlist", near.prep_xfer_dlist("NIXL_INIT_AGENT", pages(source), "DRAM"))
remote = near.prep_xfer_dlist("far", pages(target), "DRAM")
both = np.array([0, 1], dtype=np.int32)
handle = note("make_prepped_xfer", near.make_prepped_xfer("WRITE", local, both, remote, both, b"landed"))
state = note("transfer", near.transfer(handle))
notified = {}
for _ in range(100_000):
    state = note("check_xfer_state", near.check_xfer_state(handle))
    notified = note("get_new_notifs", far.get_new_notifs())
    if notified:
        break
assert (state, notified, target.sum()) == ("DONE", {"near": [b"landed"]}, 7 * 8192), (state, notified)
note("get_xfer_telemetry", near.get_xfer_telemetry(handle))
note("send_notif", near.send_notif("far", b"hello"))
note("release_xfer_handle", near.release_xfer_handle(handle))
note("release_dlist_handle", near.release_dlist_handle(local))
near.release_dlist_handle(remote)
note("remove_remote_agent", near.remove_remote_agent("far"))
note("deregister_memory", near.deregister_memory(regions[0]))
far.deregister_memory(regions[1])
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def observed() -> dict[str, str]:
    """The types that a loopback transfer returned, by the name of the method; in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", LOOPBACK],
        env={**os.environ, **NIXL_ENV},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    types: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    return types


def stubbed_types(source: str) -> dict[str, str]:
    """The returned types of ``nixl_agent`` in the stub, without modules and without what is in brackets."""
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    (agent,) = (node for node in classes if node.name == "nixl_agent")
    return {
        node.name: ast.unparse(node.returns).removeprefix("_bindings.").split("[")[0].replace("None", "NoneType")
        for node in agent.body
        if isinstance(node, ast.FunctionDef) and node.returns is not None and node.name != "__init__"
    }


def wrong_types(source: str, observed: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The methods whose stubbed type is not the observed one, with both."""
    stubbed = stubbed_types(source)
    return {name: (stubbed[name], seen) for name, seen in observed.items() if seen != stubbed[name]}


def test_the_stub_returns_what_nixl_returns(observed: dict[str, str]) -> None:
    assert wrong_types(STUB.read_text(), observed) == {}


def test_the_type_that_nixl_itself_annotates_is_wrong(observed: dict[str, str]) -> None:
    # The planted mistake is NIXL's own. If this fails because NIXL was fixed, fix the stub and the contract too.
    truth = "def add_remote_agent(self, metadata: bytes) -> bytes"
    source = STUB.read_text()
    assert source.count(truth) == 1
    planted = source.replace(truth, truth.removesuffix("bytes") + "str")
    assert wrong_types(planted, observed) == {"add_remote_agent": ("str", "bytes")}
    real = inspect.signature(nixl_agent.add_remote_agent)
    assert real.return_annotation == "str"


def test_what_was_not_called_is_known(observed: dict[str, str]) -> None:
    assert set(stubbed_types(STUB.read_text())) - set(observed) == {
        # Both need a metadata server or a listener, and a listener needs a free port.
        "send_local_metadata",
        "fetch_remote_metadata",
    }
