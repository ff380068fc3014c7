"""What the published types accept and what they refuse, said in small programs and judged by mypy.

A comment that begins with ``# E:`` holds the message with which mypy has to refuse the next line. mypy runs once for
all programs, with the repository's configuration, and has to say exactly what the comments say.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle

from kvsender_spec.contract import Transport

ROOT = Path(__file__).parents[2]


def as_transport(agent: nixl_agent) -> Transport[nixl_prepped_dlist_handle, nixl_xfer_handle]:
    """A NIXL agent is a transport: mypy judges this body whenever it judges the tests."""
    return agent


SNIPPETS = {
    "good_transport": """
        from kvsender_spec.contract import Transport
        from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle

        transport: Transport[nixl_prepped_dlist_handle, nixl_xfer_handle] = nixl_agent("prefill-0")
    """,
    "good_sender": """
        from collections.abc import Sequence
        from typing import NoReturn
        from kvsender_spec.contract import KVPoll, Sender

        class Finished:
            def send(self, kv_indices: Sequence[int]) -> None: ...
            def poll(self) -> KVPoll:
                return KVPoll.Success
            def failure_exception(self) -> NoReturn:
                raise ValueError("the room has not failed")

        sender: Sender = Finished()
    """,
    "good_match": """
        from kvsender_spec.contract import KVPoll

        def over(poll: KVPoll) -> bool:
            match poll:
                case KVPoll.Failed | KVPoll.Success:
                    return True
                case KVPoll.Bootstrapping | KVPoll.WaitingForInput | KVPoll.Transferring:
                    return False
    """,
    "handles_swapped": """
        from kvsender_spec.contract import Transport
        from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle

        # E: Incompatible types in assignment (expression has type "nixl_agent",
        #    variable has type "Transport[nixl_xfer_handle, nixl_prepped_dlist_handle]")  [assignment]
        transport: Transport[nixl_xfer_handle, nixl_prepped_dlist_handle] = nixl_agent("prefill-0")
    """,
    "wrong_handle": """
        from nixl._api import nixl_agent, nixl_prepped_dlist_handle

        def post(agent: nixl_agent, pages: nixl_prepped_dlist_handle) -> str:
            agent.release_dlist_handle(pages)
            # E: Argument 1 to "transfer" of "nixl_agent" has incompatible type "nixl_prepped_dlist_handle";
            #    expected "nixl_xfer_handle"  [arg-type]
            return agent.transfer(pages)
    """,
    "wrong_operation": """
        import numpy as np
        from kvsender_spec.contract import Transport

        def post(transport: Transport[str, int], local: str, remote: str) -> int:
            pages = np.array([0], dtype=np.int32)
            # E: Argument 1 to "make_prepped_xfer" of "Transport" has incompatible type "Literal['PUT']";
            #    expected "Literal['WRITE', 'READ']"  [arg-type]
            return transport.make_prepped_xfer("PUT", local, pages, remote, pages)
    """,
    "sender_without_poll": """
        from collections.abc import Sequence
        from typing import NoReturn
        from kvsender_spec.contract import Sender

        class Silent:
            def send(self, kv_indices: Sequence[int]) -> None: ...
            def failure_exception(self) -> NoReturn:
                raise ValueError("the room has not failed")

        # E: Incompatible types in assignment (expression has type "Silent",
        #    variable has type "Sender")  [assignment]
        sender: Sender = Silent()
    """,
    "failure_returned": """
        from collections.abc import Sequence
        from kvsender_spec.contract import Sender

        class Polite:
            def send(self, kv_indices: Sequence[int]) -> None: ...
            def poll(self) -> int:
                return 0
            def failure_exception(self) -> Exception:
                return ValueError("handed out instead of raised")

        # E: Incompatible types in assignment (expression has type "Polite",
        #    variable has type "Sender")  [assignment]
        sender: Sender = Polite()
    """,
    "poll_forgotten": """
        from kvsender_spec.contract import KVPoll

        def over(poll: KVPoll) -> str:
            word = "going on"
            # E: Match statement has unhandled case for values of type
            #    "Literal[KVPoll.Bootstrapping]"  [exhaustive-match]
            match poll:
                case KVPoll.Failed | KVPoll.Success:
                    word = "over"
                case KVPoll.WaitingForInput | KVPoll.Transferring:
                    pass
            return word
    """,
}


def expected(program: str) -> list[tuple[int, str]]:
    """The lines that the comments want refused, each with its message."""
    found: list[tuple[int, str]] = []
    message: str | None = None
    for number, line in enumerate(program.splitlines(), start=1):
        text = line.strip()
        if text.startswith("# E:"):
            message = text.removeprefix("# E:").strip()
        elif message is not None and text.startswith("#"):
            message += " " + text.removeprefix("#").strip()
        elif message is not None:
            found.append((number, message))
            message = None
    return found


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """The lines that mypy refused, each with its message, by the name of the program."""
    folder = tmp_path_factory.mktemp("snippets")
    for name, program in SNIPPETS.items():
        (folder / f"{name}.py").write_text(dedent(program))
    # The cache stays between runs, because numpy's stubs alone take mypy ten seconds; it is a cache of its own, so that
    # a run of mypy over the repository at the same time does not meet it.
    arguments = ("--config-file", str(ROOT / "mypy.ini"), "--cache-dir", str(ROOT / ".mypy_cache" / "snippets"))
    answer = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, "--hide-error-context", *(f"{name}.py" for name in SNIPPETS)],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("MYPY")},
        text=True,
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert answer.stderr == ""
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in SNIPPETS}
    for line in answer.stdout.splitlines():
        match = re.fullmatch(r"(\w+)\.py:(\d+): error: (.*)", line)
        if match is not None:
            found[match[1]].append((int(match[2]), match[3]))
    assert f"Found {sum(map(len, found.values()))} errors in" in answer.stdout, answer.stdout
    return found


@pytest.mark.parametrize("name", SNIPPETS)
def test_mypy_says_what_the_comments_say(name: str, refused: dict[str, list[tuple[int, str]]]) -> None:
    assert refused[name] == expected(dedent(SNIPPETS[name]))


def test_good_programs_expect_nothing_and_the_others_something() -> None:
    # A comment that the parser above does not recognise would turn a wrong program into a good one.
    silent = {name for name, program in SNIPPETS.items() if not expected(dedent(program))}
    assert silent == {name for name in SNIPPETS if name.startswith("good_")}
