"""An adapter that cannot be used is refused with exit code 2 and a sentence, and is never green."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.test_cli import kvsender

PAGE = """
import os
from kvsender_spec.kit.toy import ToyAdapter, ToySystem

class Named(ToyAdapter):
    pass

class Nameless(ToyAdapter):
    name = None

class InWords(ToyAdapter):
    name, profile = "in words", "latch"

class Misspelt(ToyAdapter):
    profile = "lach"

class BreaksInOpen(ToyAdapter):
    def open(self, world):
        raise OSError("no such device")

class Leaves(ToyAdapter):
    def open(self, world):
        raise SystemExit(0)

class Ends(ToyAdapter):
    opened = 0

    def open(self, world):
        self.opened += 1
        if self.opened == 40:
            os._exit(0)
        return super().open(world)

class Noisy(ToyAdapter):
    name = "a\\x1b[31mred\\x07"

nameless, in_words, misspelt, breaks, leaves, ends, noisy = (
    Nameless(), InWords(), Misspelt(), BreaksInOpen(), Leaves(), Ends(), Noisy()
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PAGE)
    return tmp_path


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("mine:Named", "mine:Named is a class: make an instance, as in adapter = Named(), and name that"),
        ("mine:nameless", "its name is None, and must be a string that is not empty"),
        ("mine:misspelt", "its profile is 'lach', and must be one of latch, quiescent, full"),
        ("mine:breaks", "open raised OSError: no such device"),
        ("mine:leaves", "open raised SystemExit: 0"),
        ("mine:ends", "the adapter has ended the process with os._exit(0): "),
        ("nosuch.py:adapter", "there is no file 'nosuch.py'"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused(folder: Path, adapter: str, message: str) -> None:
    done = kvsender("check", adapter, "--examples", "3", cwd=folder)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, said
    assert message in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit", "module 'mine' ends the program at its import (SystemExit None)"),
        ("raise SystemExit(0)", "module 'mine' ends the program at its import (SystemExit 0)"),
        ("import argparse; argparse.ArgumentParser().parse_args(['-x'])", "ends the program at its import"),
    ],
)
def test_a_module_that_ends_the_program_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text + "\n")
    done = kvsender("check", "mine:adapter", cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_a_module_that_reads_the_command_line_does_not_see_that_of_the_kit(tmp_path: Path) -> None:
    read = "import argparse; argparse.ArgumentParser().parse_args()\n"
    (tmp_path / "mine.py").write_text(read + "from kvsender_spec.kit.toy import adapter\n")
    assert kvsender("check", "mine:adapter", "KS-1", "--examples", "1", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("named", ["mine.py:in_words", "./mine.py:in_words", "mine:in_words"])
def test_a_path_is_taken_and_so_is_a_profile_in_words(folder: Path, named: str) -> None:
    done = kvsender("check", named, "KS-1", "--examples", "1", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in words, profile latch" in done.stdout
    assert "KS-1.5" in done.stdout


def test_control_characters_of_a_name_are_spelt_out(folder: Path) -> None:
    done = kvsender("check", "mine:noisy", "KS-2.1", "--examples", "1", cwd=folder)
    assert r"a\x1b[31mred\x07" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
