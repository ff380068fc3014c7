"""The pump's readers that try a READ again that could not be made, as long as nothing of the call was posted."""

from __future__ import annotations

from typing import Final

from tests.foreign.reader_base import TRANSPORT, Job, Request
from tests.foreign.reader_right_pump import Engine, pull

from kvsender_spec.kit.adapter import Adapter, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle


class RetryEngine(Engine):
    """The first error is the cause."""

    def __init__(self, world: World) -> None:
        self.posted = False
        super().__init__(world)

    def run_jobs(self, req: Request) -> None:
        self.posted = False
        super().run_jobs(req)

    def launch(self, req: Request, job: Job, handle: ScriptedHandle) -> None:
        self.posted = True
        super().launch(req, job, handle)

    def make(self, job: Job) -> ScriptedHandle:
        try:
            return super().make(job)
        except TRANSPORT as first:
            if self.posted:
                raise
            return self.again(job, first)

    def again(self, job: Job, first: Exception) -> ScriptedHandle:
        try:
            return super().make(job)
        except TRANSPORT:
            raise first from None


class RetryChainEngine(RetryEngine):
    """The second error is raised from the first."""

    def again(self, job: Job, first: Exception) -> ScriptedHandle:
        try:
            return Engine.make(self, job)
        except TRANSPORT as second:
            raise second from first


class RetryLastEngine(RetryEngine):
    """The second error is the cause."""

    def again(self, job: Job, first: Exception) -> ScriptedHandle:
        return Engine.make(self, job)


RIGHT: Final[tuple[Adapter, ...]] = (
    pull("retry_first", RetryEngine),
    pull("retry_chain", RetryChainEngine),
    pull("retry_last", RetryLastEngine),
)
