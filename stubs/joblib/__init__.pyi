# What kvsender_spec.kit.search.processes uses of joblib, which has no annotations.
from collections.abc import Callable, Generator, Iterable
from typing import Generic, Literal, ParamSpec, TypeVar, type_check_only

_P = ParamSpec("_P")
_R = TypeVar("_R")

@type_check_only
class _Task(Generic[_R]): ...

class Parallel:
    def __init__(
        self,
        n_jobs: int | None = ...,
        backend: str | None = ...,
        return_as: Literal["list", "generator", "generator_unordered"] = "list",
        verbose: int = ...,
        timeout: float | None = None,
        pre_dispatch: int | str = "2 * n_jobs",
        batch_size: int | Literal["auto"] = "auto",
        temp_folder: str | None = ...,
        max_nbytes: int | str | None = ...,
        mmap_mode: str | None = ...,
        prefer: str | None = ...,
        require: str | None = ...,
        **backend_kwargs: object,
    ) -> None: ...
    # With ``return_as="generator"``, as it is used here; with another value it is a list.
    def __call__(self, iterable: Iterable[_Task[_R]]) -> Generator[_R, None, None]: ...

def delayed(function: Callable[_P, _R]) -> Callable[_P, _Task[_R]]: ...
