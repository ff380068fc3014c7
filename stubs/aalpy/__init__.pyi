# What kvsender_spec.kit.search.learn uses of AALpy, which has annotations but no py.typed. Letters and outputs are any hashable
# objects there; here they are the strings that this project passes.
from abc import ABC, abstractmethod
from typing import Literal

class SUL(ABC):
    num_queries: int
    num_steps: int
    def __init__(self) -> None: ...
    def query(self, word: tuple[str, ...]) -> list[str]: ...
    @abstractmethod
    def pre(self) -> None: ...
    @abstractmethod
    def post(self) -> None: ...
    @abstractmethod
    def step(self, letter: str) -> str: ...

class MealyState(ABC):
    def __init__(self, state_id: str) -> None: ...
    transitions: dict[str, MealyState]
    output_fun: dict[str, str]

class MealyMachine(ABC):
    initial_state: MealyState
    states: list[MealyState]
    def __init__(self, initial_state: MealyState, states: list[MealyState]) -> None: ...

class Oracle(ABC):
    alphabet: list[str]
    sul: SUL
    num_queries: int
    num_steps: int
    def __init__(self, alphabet: list[str], sul: SUL) -> None: ...
    @abstractmethod
    def find_cex(self, hypothesis: MealyMachine) -> tuple[str, ...] | None: ...

def run_KV(
    alphabet: list[str],
    sul: SUL,
    eq_oracle: Oracle,
    automaton_type: Literal["mealy"],
    cex_processing: str = "rs",
    max_learning_rounds: int | None = None,
    cache_and_non_det_check: bool = True,
    return_data: Literal[False] = False,
    print_level: int = 2,
) -> MealyMachine: ...
