"""A prefill side of SGLang, unmodified, as the kit sees it.

What the kit can ask and SGLang's interface cannot say:

* A peer that restarts comes back under a name of its own making in SGLang (a random one, or another port), while the
  kit's peers keep their names. So there is no ``reconnect``, and KS-6.3 is not applicable.
* There is no quarantine: prefill gives its pages back as soon as poll() says Failed. KS-4.4 is not applicable, and
  KS-4.1 wants every handle settled.
* A failure's only attribution is one bit of 0.5.23, "from another rank", which is none of the contract's; KS-2.8 is not
  applicable.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Final, NoReturn

import numpy as np

from kvsender_connectors.loading import Attributes
from kvsender_connectors.notifications import SEPARATOR, read_chunk, read_status
from kvsender_connectors.release import ClearableSender, RealSender, Release
from kvsender_connectors.seams import Seams
from kvsender_connectors.wire import FIRST_PORT, LAYERS, ORDER, Layout
from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import Memory, Notification, RoomPlan, World
from kvsender_spec.machine import Profile

BOOTSTRAP_ADDRESS: Final = "127.0.0.1:8998"
PAGE_TOKENS: Final = 64


def kv_args(memory: Memory, *, nested_state: bool) -> Attributes:
    """What SGLang's scheduler tells a manager about its pools: a dense model of two layers."""
    layout = Layout.of(memory)
    no_state: Mapping[str, list[object]] = {
        f"state_{what}": [] for what in ("data_ptrs", "data_lens", "item_lens", "dim_per_tensor")
    }
    arguments: dict[str, object] = {
        **no_state,
        "engine_rank": 0,
        "kv_data_ptrs": list(layout.kv_pointers),
        "kv_data_lens": [len(memory.kv[region]) for region in ORDER],
        "kv_item_lens": list(layout.kv_item_bytes),
        "aux_data_ptrs": list(layout.aux_pointers),
        "aux_data_lens": [len(region) for region in memory.aux],
        "aux_item_lens": list(layout.aux_item_bytes),
        "ib_device": None,
        "ib_traffic_class": None,
        "gpu_id": 0,
        "kv_head_num": 1,
        "total_kv_head_num": 1,
        "page_size": PAGE_TOKENS,
        "pp_rank": 0,
        "prefill_start_layer": 0,
        "prefill_end_layer": LAYERS,
        "system_dp_rank": 0,
    }
    if nested_state:
        arguments |= {"state_types": [], "state_layer_ids": [], "state_slice_outer_counts": []}
        arguments |= {"state_conv_shard_groups": [], "kv_layer_ids": [], "kv_cache_dtype_str": "bfloat16"}
        arguments |= {"is_hybrid_mla_backend": False, "mla_compression_ratios": None, "rust_http_port": None}
        arguments |= {"swa_kv_cache_layout": None}
    else:
        arguments["state_type"] = "none"
    return arguments


class PostingSender:
    """The sender of 0.5.11, which has no clear(). Lists of page ids become the arrays that SGLang takes."""

    def __init__(self, sender: RealSender, state_indices: Sequence[Sequence[int]] | None) -> None:
        self._sender: Final = sender
        self._state_indices: Final = state_indices

    def send(self, kv_indices: Sequence[int]) -> None:
        whole = all(isinstance(page, int) for page in kv_indices)
        # What is not an int stays as it is, so that the sender gets to refuse it.
        array = np.array(kv_indices, dtype=np.int32) if whole else np.array(kv_indices)
        self._sender.send(array, self._state_indices)

    def poll(self) -> KVPoll:
        return KVPoll(self._sender.poll())

    def failure_exception(self) -> NoReturn:
        self._sender.failure_exception()

    def abort(self) -> None:
        self._sender.abort()


class QueueingSender(PostingSender):
    """The senders of 0.5.12 and later."""

    def __init__(self, sender: ClearableSender, state_indices: Sequence[Sequence[int]] | None) -> None:
        super().__init__(sender, state_indices)
        self.clear: Final = sender.clear
        self.get_transfer_metric: Final = sender.get_transfer_metric


class SGLangSystem(ABC):
    """One manager and its senders. What differs between the releases is in the subclasses, beside their adapters."""

    def __init__(self, release: Release, world: World, further: Attributes, *, nested_state: bool) -> None:
        self.release: Final = release
        self.world: Final = world
        self.seams: Final = Seams(world.clock, self._deliver)
        release.rewire(self.seams, further)
        self.manager: Final = release.manager(kv_args(world.memory, nested_state=nested_state))
        # A system that the kit drops without closing it takes its threads along. A finalizer that is never called holds
        # what it would close, and by way of the threads the system itself, for as long as the process lives.
        self._close: Final = weakref.finalize(self, self.seams.close)

    @abstractmethod
    def announce(self, plan: RoomPlan) -> None:
        """Let every destination of the room say where it wants it."""

    @abstractmethod
    def make(self, plan: RoomPlan) -> PostingSender:
        """A sender of the room without init()."""

    def sender(self, plan: RoomPlan) -> PostingSender:
        """In SGLang's order: the sender opens the room, the decode side says where it wants it, and init() follows."""
        sender = self.uninitialised(plan)
        sender._sender.init(plan.num_pages, plan.aux_index)
        return sender

    def uninitialised(self, plan: RoomPlan) -> PostingSender:
        sender = self.make(plan)
        self.announce(plan)
        return sender

    # -- worker threads

    def workers(self) -> Sequence[Thread]:
        return tuple(self.seams.threads)

    def busy(self) -> int:
        return self.seams.busy

    def close(self) -> None:
        self._close()

    def control(self, message: bytes) -> None:
        self.seams.control.deliver([message])

    # -- what peers are told

    def _deliver(self, endpoint: str, parts: Sequence[bytes]) -> None:
        """A message over the control channel, which is no part of the transport and fails with nothing but the peer."""
        number = int(endpoint.rpartition(":")[2]) - FIRST_PORT
        self.world.peers[number].agent.deliver(self.world.transport.name, SEPARATOR.join(parts))

    def read_notification(self, message: bytes) -> Notification | None:
        return read_status(message) or read_chunk(message)


class SGLangAdapter:
    """What the adapters of every release have in common. They claim the seed's profile: SGLang promises no other."""

    name: str
    profile: Final = Profile.LATCH
    errors: Final[Mapping[str, type[Exception]]] = STAND_INS
    usage_errors: Final[tuple[type[Exception], ...]] = (AssertionError, ValueError)
    """SGLang asserts what it demands of its caller, and has no class of its own for it."""
