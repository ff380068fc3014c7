"""One loaded release of SGLang: its manager and sender, and where the seams go in. The types are what is used of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from kvsender_connectors.loading import Attributes, load_modules, put_in_place, release_root, substitute
from kvsender_connectors.seams import Seams
from kvsender_connectors.stand_ins import SHELLS, ServerArgs, stand_in_for_zmq

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONNECTION: Final = "sglang.srt.disaggregation.common.conn"


class RealSender(Protocol):
    """SGLang's own sender."""

    def init(self, num_kv_indices: int, aux_index: int) -> None: ...

    def send(self, kv_indices: NDArray[np.int32], state_indices: Sequence[Sequence[int]] | None) -> None: ...

    def poll(self) -> int: ...

    def failure_exception(self) -> NoReturn: ...

    def abort(self) -> None: ...


class ClearableSender(RealSender, Protocol):
    """The sender of 0.5.12 and later."""

    def clear(self) -> None: ...

    def get_transfer_metric(self) -> object: ...


class Release:
    """A release with one of its transports. Making one loads it; a process can hold one."""

    def __init__(self, version: str, transport: str, prefix: str, stand_ins: Mapping[str, Attributes]) -> None:
        self.version: Final = version
        stand_in_for_zmq()
        put_in_place(release_root(version, "sglang"), SHELLS, stand_ins)
        if not hasattr(logging.Logger, "warning_once"):
            # SGLang adds this method to every logger, in a module that is not loaded here.
            setattr(logging.Logger, "warning_once", logging.Logger.warning)  # noqa: B010
        backend, common, base, kinds = load_modules(
            f"sglang.srt.disaggregation.{transport}.conn",
            CONNECTION,
            "sglang.srt.disaggregation.base.conn",
            "sglang.srt.disaggregation.utils",
        )
        self.modules: Final[tuple[ModuleType, ...]] = (backend, common)
        self.make_manager: Final[Callable[..., object]] = getattr(backend, f"{prefix}KVManager")
        self.sender_class: Final[Callable[..., ClearableSender]] = getattr(backend, f"{prefix}KVSender")
        self.make_args: Final[Callable[[], object]] = base.KVArgs
        self.prefill: Final[object] = kinds.DisaggregationMode.PREFILL
        self._zmq: Final[object] = sys.modules["zmq"]
        self._requests: Final[object] = sys.modules["requests"]

    def rewire(self, seams: Seams, further: Attributes) -> None:
        """Point the release's modules at another world."""
        substitute(self.modules, {**seams.attributes(self._zmq, self._requests), **further})

    def manager(self, arguments: Attributes) -> object:
        """A prefill side over memory that ``arguments`` describes, as SGLang's scheduler makes it."""
        args = self.make_args()
        for name, value in arguments.items():
            setattr(args, name, value)
        return self.make_manager(args, self.prefill, ServerArgs(), False)
