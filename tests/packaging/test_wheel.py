"""The wheel as somebody else installs it: into an empty environment, without torch and without nixl.

The wheel is built and installed once; everything after that runs in a folder outside the repository, so that nothing
can be found there by accident.
"""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from tests.spec.links import broken, is_relative, links, pages

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command without whatever the environment would add to its search paths."""
    scrubbed = ("PYTHONPATH", "MYPYPATH", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    environment = {key: value for key, value in os.environ.items() if key not in scrubbed}
    return subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, check=False, timeout=240)


def build(target: str, folder: Path) -> Path:
    """The wheel or the sdist, built from this tree with the hatchling of this environment."""
    answer = run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the sdist unpacks."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build("sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        # extractall() has no filter before Python 3.11.4, and warns without one from 3.12 on.
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None:
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="session")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that holds the wheel, what it requires, and pytest."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--quiet")
    answer = run(*pip, "install", "--no-warn-conflicts", wheel, "pytest", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder / "bin"


def packages() -> list[Path]:
    """The packages that go into the wheel, as pyproject.toml lists them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [ROOT / path for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def test_it_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in packages()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert modules == expected | {"kvsender_spec/project.schema.json"}
    assert {f"{package.name}/py.typed" for package in packages()} <= modules
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_whatever_its_pages_link_to(sdist: Path) -> None:
    assert {page.relative_to(ROOT) for page in pages(ROOT)} == {page.relative_to(sdist) for page in pages(sdist)}
    assert any(is_relative(link) for link in links((sdist / "README.md").read_text(encoding="utf-8")))
    assert list(broken(sdist)) == []
    (sdist / "CHANGELOG.md").rename(sdist / "CHANGES.md")
    assert "README.md: CHANGELOG.md: no such file" in list(broken(sdist))


def test_the_page_on_the_index_has_no_relative_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    shown = metadata.get_payload(decode=True)
    assert isinstance(shown, bytes)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = project["urls"]["Homepage"]
    readme = links((ROOT / "README.md").read_text(encoding="utf-8"))
    assert links(shown.decode()) == [f"{base}/blob/main/{link}" if is_relative(link) else link for link in readme]
    assert metadata.get_all("Project-URL") == [f"{name}, {url}" for name, url in project["urls"].items()]


def test_the_environment_is_as_bare_as_it_should_be(scripts: Path, tmp_path: Path) -> None:
    # The control of the tests below: here torch, nixl, numpy and the repository really cannot be imported.
    program = """
from importlib.util import find_spec
print([name for name in ("torch", "nixl", "nixl_cu13", "numpy", "tests", "kvsender_spec") if find_spec(name)])
"""
    answer = run(scripts / "python", "-c", program, cwd=tmp_path)
    assert (answer.stdout, answer.stderr) == ("['kvsender_spec']\n", "")


def test_the_command_starts(scripts: Path, tmp_path: Path) -> None:
    answer = run(scripts / "kvsender", "--help", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "Usage" in answer.stdout
    assert run(scripts / "kvsender", "--no-such-option", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("package", [path.name for path in packages()])
def test_the_package_imports_without_torch_and_nixl(package: str, scripts: Path, tmp_path: Path) -> None:
    answer = run(scripts / "python", "-W", "error", "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "site-packages" in answer.stdout


def test_the_agent_falls_back_to_what_old_bindings_raise(scripts: Path, tmp_path: Path) -> None:
    # Bindings without the error classes raise a plain RuntimeError for a dead peer, so that one remains.
    program = "from kvsender_nixl.agent import ERROR_CLASSES, TRANSPORT_ERRORS; print(ERROR_CLASSES, TRANSPORT_ERRORS)"
    answer = run(scripts / "python", "-W", "error", "-c", program, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "{} (<class 'RuntimeError'>,)\n"


def test_the_agent_says_what_to_install(scripts: Path, tmp_path: Path) -> None:
    program = "from kvsender_nixl.agent import create_agent; create_agent('prefill-0')"
    answer = run(scripts / "python", "-c", program, cwd=tmp_path)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last == "ImportError: the NIXL sender needs nixl: pip install nixl==1.5.1 nixl-cu13==1.5.1"


LOADED = """
import sys

def test_what_is_loaded():
    assert "_kvsender_pytest.plugin" in sys.modules
    assert [name for name in ("hypothesis", "kvsender_spec.kit") if name in sys.modules] == []
"""


def test_pytest_finds_the_plugin(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "test_loaded.py").write_text(LOADED)
    pytest_here = (scripts / "python", "-m", "pytest", "-p", "no:cacheprovider")
    answer = run(*pytest_here, "--trace-config", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout
    (registered,) = (line for line in answer.stdout.splitlines() if line.strip().startswith("kvsender-spec-"))
    assert registered.endswith("site-packages/_kvsender_pytest/plugin.py")
    # The controls: without the plugin, and with hypothesis imported early, the same test fails.
    assert run(*pytest_here, "-p", "no:kvsender", cwd=tmp_path).returncode == 1
    (tmp_path / "conftest.py").write_text("import hypothesis\n")
    assert run(*pytest_here, cwd=tmp_path).returncode == 1


GOOD = """
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
"""

WRONG = """
from kvsender_spec.contract import KVPoll

over: str = KVPoll.Success.terminal
late = KVPoll.Succeeded
"""


def test_a_consumer_sees_the_types(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "wrong.py").write_text(WRONG)
    # The mypy of this environment, looking at the packages of the other one, with no configuration but its own.
    arguments = ("--strict", "--config-file=", "--python-executable", scripts / "python", "good.py", "wrong.py")
    answer = run(sys.executable, "-m", "mypy", *arguments, cwd=tmp_path)
    assert answer.stdout.splitlines() == [
        'wrong.py:4: error: Incompatible types in assignment (expression has type "bool", variable has type "str")'
        "  [assignment]",
        'wrong.py:5: error: "type[KVPoll]" has no attribute "Succeeded"  [attr-defined]',
        "Found 2 errors in 1 file (checked 2 source files)",
    ]
