"""What SGLang's transfer modules import and these checks have no use for: a few names each, and no behaviour.

The parallel layout is the smallest there is: one rank, one stage, no speculative decoding, no staging buffer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Final, TypeVar

from kvsender_connectors.loading import Attributes
from kvsender_spec.faults import STAND_INS

_T = TypeVar("_T")

SHELLS: Final = (
    "sglang",
    "sglang.srt",
    "sglang.srt.configs",
    "sglang.srt.disaggregation",
    "sglang.srt.distributed",
    "sglang.srt.distributed.device_communicators",
    "sglang.srt.layers",
    "sglang.srt.mem_cache",
    "sglang.srt.observability",
    "sglang.srt.utils",
)


class ServerArgs:
    """The options that the managers read; 0.5.23 reads most of them from its runtime context instead."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.disaggregation_bootstrap_port = 8998
        self.dist_init_addr: str | None = None
        self.enable_dp_attention = False
        self.enable_hisparse = False
        self.enable_pd_role_switch = False
        self.dp_size = 1
        self.pp_size = 1
        self.nnodes = 1
        self.kv_cache_dtype = "bfloat16"
        self.load_balance_method = "follow_bootstrap_room"
        self.chunked_prefill_size = 8192


class _Zmq(ModuleType):
    """Sockets are replaced where they are made; what is left of zmq is names."""

    def __getattr__(self, name: str) -> int:
        if name.isupper():
            return 0
        raise AttributeError(name)


class ZmqError(Exception):
    pass


class ZmqAgain(ZmqError):
    pass


class ZmqContext:
    """Made where a class or module of the release is defined, and never used."""

    def set(self, option: int, value: int) -> None:
        pass


def _always(value: _T) -> Callable[..., _T]:
    def answer(*_: object, **__: object) -> _T:
        return value

    return answer


class _Counter:
    """A metric that nobody reads."""

    def __init__(self, *_: str) -> None:
        pass

    def inc(self) -> None:
        pass


NETWORK: Final[Mapping[str, Attributes]] = {
    "aiohttp": {"web": SimpleNamespace()},
    "psutil": {},
    "requests": {"Session": object, "adapters": SimpleNamespace()},
    "zmq": {"Context": ZmqContext, "ZMQError": ZmqError, "Again": ZmqAgain},
    "zmq.auth": {},
    "zmq.auth.thread": {"ThreadAuthenticator": object},
    "prometheus_client": {"Counter": _Counter},
}
"""Packages of the network and of metrics."""

NIXL: Final[Mapping[str, Attributes]] = {
    "nixl": {},
    "nixl._api": {
        "nixl_agent_config": _always(None),
        "nixl_thread_sync_t": SimpleNamespace(NIXL_THREAD_SYNC_STRICT=0),
    },
    "nixl._bindings": dict(STAND_INS),
}
"""NIXL's names. ``nixl_agent`` is added for each world, see ``seams``."""

_COMMON: Final[Mapping[str, Attributes]] = {
    **NETWORK,
    **NIXL,
    "sglang.srt.server_args": {"ServerArgs": ServerArgs},
    "sglang.srt.utils": {
        "is_npu": _always(False),
        "get_int_env_var": lambda _, default=0: default,
        "create_device_event": None,
        "create_device_stream": None,
        "device_stream_context": None,
    },
    "sglang.srt.distributed": {"get_pp_group": _always(None), "get_world_group": _always(None)},
}

UNTIL_0_5_12: Final[Mapping[str, Attributes]] = {
    **_COMMON,
    "sglang.srt.layers.dp_attention": {
        f"get_attention_{which}_{what}": _always(value)
        for which in ("cp", "dp", "tp")
        for what, value in (("rank", 0), ("size", 1))
    },
}

_SIZES: Final = ("attn_tp_size", "attn_cp_size", "attn_dcp_size", "attn_dp_size", "dp_size", "pp_size", "num_dp_ranks")
_RANKS: Final = ("attn_tp_rank", "attn_cp_rank", "attn_dcp_rank", "attn_dp_rank")
_SHARING: Final = ("enable_kv_cache_sharding", "enable_dsa_cache_layer_split", "enable_cp_tp_group_sharing")
_PARALLEL: Final = SimpleNamespace(
    **dict.fromkeys((*_SIZES, "nnodes"), 1),
    **dict.fromkeys(_RANKS, 0),
    **dict.fromkeys(_SHARING, False),
    **dict.fromkeys(("dist_init_addr", "pp_group", "world_group")),
    load_balance_method="follow_bootstrap_room",
)
_CONTEXTS: Final[Mapping[str, object]] = {
    "device": SimpleNamespace(device="cpu"),
    "disagg": SimpleNamespace(
        disaggregation_bootstrap_port=8998,
        disaggregation_decode_allocation_policy="early",
        disaggregation_transfer_backend="nixl",
        disaggregation_ib_device=None,
    ),
    "exec": SimpleNamespace(),
    "memory": SimpleNamespace(enable_unified_memory=False),
    "observability": SimpleNamespace(enable_trace=False),
    "parallel": _PARALLEL,
    "resources": SimpleNamespace(),
    "schedule": SimpleNamespace(chunked_prefill_size=8192, max_prefill_tokens=16384),
    "serving": SimpleNamespace(host="127.0.0.1", port=0),
    "spec": SimpleNamespace(speculative_algorithm=None, speculative_num_draft_tokens=None),
}

SINCE_0_5_23: Final[Mapping[str, Attributes]] = {
    **_COMMON,
    "sglang.srt.runtime_context": {
        **{f"get_{name}": _always(value) for name, value in _CONTEXTS.items()},
        "linear_attn_tp_size": _always(1),
        "max_prefill_buffer_tokens": _always(None),
    },
    "sglang.srt.utils.common": {
        "run_with_deadline": lambda call, **_: call(),  # there is no deadline, and no thread to keep it
        "ceil_align": lambda value, step: -(-value // step) * step,
    },
    "sglang.srt.configs.model_config": {"get_dsa_mtp_topk_width": None, "is_deepseek_dsa": _always(False)},
    "sglang.srt.distributed.parallel_state": {
        "GroupCoordinator": object,
        "get_mooncake_transfer_engine": _always(None),
    },
    "sglang.srt.mem_cache.page_interleave": {"get_kv_shard_group": None},
    "sglang.srt.observability.mooncake_trace": {
        "MooncakeRequestStage": SimpleNamespace(MOONCAKE_SEND=None),
        "mooncake_trace_func": lambda _: lambda call: call,  # the decorator of traced calls, without the trace
        "mooncake_trace_slice": _always(None),
    },
}

MOONCAKE: Final[Mapping[str, Attributes]] = {"mooncake": {}, "mooncake.engine": {}}
"""Mooncake's engine is a library in C++. ``TransferEngine`` is added for each world, see ``engine``."""


def stand_in_for_zmq() -> None:
    """zmq has dozens of constants; a module that answers for all of them is made here, unless there is one already."""
    if "zmq" not in sys.modules:
        sys.modules["zmq"] = _Zmq("zmq")
        sys.modules["zmq"].__path__ = []
