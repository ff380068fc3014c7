"""Every step of the action and of the GitLab job of docs/ci.md, run with bash as a runner runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import msgspec
import pytest
import yaml

from kvsender_spec.report.json import load_report

ROOT: Final = Path(__file__).parents[2]
_INPUT: Final = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")


class Step(msgspec.Struct):
    """One step of the action: a use of another action, or a script."""

    uses: str = ""
    name: str = ""
    id: str = ""
    shell: str = ""
    run: str = ""
    env: dict[str, str] = {}
    working_directory: str = msgspec.field(default=".", name="working-directory")


class Input(msgspec.Struct):
    description: str
    default: str


class Runs(msgspec.Struct):
    using: str
    steps: list[Step]


class Action(msgspec.Struct):
    name: str
    description: str
    inputs: dict[str, Input]
    runs: Runs


class Job(msgspec.Struct):
    """What the page's GitLab job says."""

    script: list[str]
    variables: dict[str, str]


class Hook(msgspec.Struct):
    id: str
    entry: str
    pass_filenames: bool


ACTION: Final = msgspec.yaml.decode((ROOT / "action.yml").read_bytes(), type=Action)
PAGE: Final = (ROOT / "docs" / "ci.md").read_text()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an empty environment's commands, as actions/setup-python leaves one."""
    folder = tmp_path_factory.mktemp("runner")
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A project whose adapter is the toy."""
    (tmp_path / "theirs.py").write_text("from kvsender_spec.kit.toy import adapter\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "theirs"\nversion = "1"\n[tool.setuptools]\npy-modules = ["theirs"]\n'
        '[tool.kvsender]\nadapters = ["theirs:adapter"]\nbudget = "quick"\n'
    )
    return tmp_path


def bash(script: str, cwd: Path, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a GitHub runner does it: no profile, the first error ends it."""
    scrubbed = ("PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in scrubbed} | environment
    env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False, timeout=300)


def filled(text: str, given: Mapping[str, str]) -> str:
    return _INPUT.sub(lambda found: given.get(found[1], ACTION.inputs[found[1]].default), text)


def use(theirs: Path, path: Path, **given: str) -> tuple[list[subprocess.CompletedProcess[str]], str, str]:
    """Run every script of the action in their project. Returns what each did, the job summary and the outputs."""
    summary, output = theirs / "summary", theirs / "output"
    summary.touch()
    output.touch()
    done: list[subprocess.CompletedProcess[str]] = []
    for step in ACTION.runs.steps:
        if not step.run:
            continue
        assert step.shell == "bash"
        assert "${{" not in step.run, "what somebody puts into an input is never part of a script"
        environment = {name: filled(value, given) for name, value in step.env.items()}
        done.append(
            bash(
                step.run,
                theirs / filled(step.working_directory, given),
                path,
                GITHUB_ACTION_PATH=str(ROOT),
                GITHUB_STEP_SUMMARY=str(summary),
                GITHUB_OUTPUT=str(output),
                **environment,
            )
        )
        if done[-1].returncode:
            break
    return done, summary.read_text(), output.read_text()


def test_the_action_checks_the_project(theirs: Path, python: Path) -> None:
    done, summary, output = use(theirs, python, install=".")
    assert [step.returncode for step in done] == [0, 0], done[-1].stderr
    assert summary.startswith("## ✅ ")
    assert output == "exit-code=0\n"
    (document,) = load_report((theirs / "kvsender-reports" / "kvsender.json").read_bytes())
    assert document.made_by is not None
    assert document.made_by.package == "theirs 1"
    assert ElementTree.parse(theirs / "kvsender-reports" / "kvsender.xml").getroot().get("failures") == "0"
    assert (theirs / "kvsender-reports" / "kvsender.html").read_text().startswith("<!doctype html>")
    assert "KS-2.1 STICKY" in done[1].stderr, "the log has the whole report"

    # What is installed serves what follows: a sender that fails, an adapter that is named, inputs that try to escape.
    (theirs / "wrong.py").write_text(
        "from kvsender_spec.kit.toy import ToyAdapter, ToySender, ToySystem\n"
        "class Forgets(ToySender):\n    def poll(self):\n        value = super().poll()\n        self.cause = None\n"
        "        return value\n"
        "class System(ToySystem):\n    def sender(self, plan): return Forgets(self, plan)\n"
        "class Adapter(ToyAdapter):\n    def open(self, world): return System(world)\n"
        "adapter = Adapter()\n"
    )
    done, summary, output = use(theirs, python, adapter="wrong:adapter", arguments="KS-2", budget="quick", reports="r")
    assert [step.returncode for step in done] == [0, 1], done[-1].stderr
    assert output.endswith("exit-code=1\n")
    assert "❌" in summary
    assert (theirs / "r" / "badge.json").exists()

    done, _, _ = use(theirs, python, adapter="theirs:adapter; touch escaped", budget="$(touch escaped)")
    assert done[-1].returncode == 2
    assert not (theirs / "escaped").exists()

    script = yaml_of("kvsender:", Job)
    assert script.variables.keys() == {"KVSENDER"}
    gitlab = bash("\n".join(script.script), theirs, python, KVSENDER=str(ROOT))
    assert gitlab.returncode == 0, gitlab.stderr
    assert (theirs / "kvsender-reports" / "kvsender.html").exists()

    (hook,) = msgspec.yaml.decode((ROOT / ".pre-commit-hooks.yaml").read_bytes(), type=list[Hook])
    assert f"id: {hook.id}" in PAGE
    assert not hook.pass_filenames
    pushed = bash(hook.entry, theirs, python)
    assert pushed.returncode == 0, pushed.stderr


def yaml_of(begin: str, kind: type[Job]) -> Job:
    """The block of the page that begins so."""
    (block,) = re.findall(rf"```yaml\n{begin}\n(.*?)```", PAGE, re.DOTALL)
    return msgspec.convert(yaml.safe_load(f"{begin}\n{block}")[begin.removesuffix(":")], kind)


def test_the_page_names_every_input_and_no_other() -> None:
    used = {name for step in ACTION.runs.steps for value in step.env.values() for name in _INPUT.findall(value)}
    assert used <= ACTION.inputs.keys()
    (listed,) = re.findall(r"Inputs: (.*?);", PAGE, re.DOTALL)
    assert re.findall(r"`([a-z-]+)`", listed) == list(ACTION.inputs)
    assert sys.version_info >= tuple(map(int, ACTION.inputs["python-version"].default.split(".")))
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        assert yaml.safe_load(block), block
