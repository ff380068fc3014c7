"""The stub of nixl's bindings against the docstrings that pybind11 wrote into the installed module.

stubtest cannot do this, because pybind11 functions have no ``inspect.signature``. Compared are the names, the order,
the kinds and the defaults of the parameters, and the returned type. A stub may leave out a method or an overload that
nobody uses; whatever it says has to be true.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nixl._bindings as installed
import pytest

STUB = Path(__file__).parents[2] / "stubs" / "nixl" / "_bindings.pyi"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter after ``self``; ``default`` is Python source, None where the caller has to give a value."""

    name: str
    positional_only: bool
    default: str | None

    def __str__(self) -> str:
        shown = self.name if self.default is None else f"{self.name}={self.default}"
        return f"{shown} (by position)" if self.positional_only else shown


@dataclass(frozen=True, slots=True)
class Signature:
    parameters: tuple[Parameter, ...]
    returns: str

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parameters))}) -> {self.returns}"


def signature_of(function: ast.FunctionDef) -> Signature:
    """The signature of one parsed function, its annotations without the names of modules."""
    arguments = function.args
    unexpected = [arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    assert unexpected == [None, None], "this comparison knows no variadic and no keyword-only parameters"
    assert function.returns is not None
    ordered = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(ordered) - len(arguments.defaults)) + [ast.unparse(d) for d in arguments.defaults]
    parameters = tuple(
        Parameter(argument.arg, position < len(arguments.posonlyargs), default)
        for position, (argument, default) in enumerate(zip(ordered, defaults, strict=True))
    )
    return Signature(parameters[1:], re.sub(r"\b\w+\.", "", ast.unparse(function.returns)))


def parse_docstring(doc: str) -> list[Signature]:
    """The signatures in the docstring of a pybind11 function: one line, or one numbered line for each overload.

    pybind11 calls a parameter without a name arg0, arg1, ...; such a parameter can be given by position only.
    """
    lines = [line for line in doc.splitlines() if re.match(r"\w+\(self: ", re.sub(r"^\d+\. ", "", line))]
    signatures = []
    for line in lines:
        (function,) = ast.parse(f"def {re.sub(r'^[0-9]+[.] ', '', line)}: ...").body
        assert isinstance(function, ast.FunctionDef)
        found = signature_of(function)
        parameters = tuple(
            Parameter(p.name, p.positional_only or re.fullmatch(r"arg\d+", p.name) is not None, p.default)
            for p in found.parameters
        )
        signatures.append(Signature(parameters, found.returns))
    assert signatures, f"no signature in {doc!r}"
    return signatures


def compare_method(where: str, stubbed: list[Signature], documented: list[Signature]) -> list[str]:
    """What is wrong with the stub's overloads: each has to be one of the documented ones."""
    return [
        f"{where}{signature} is not among {'; '.join(map(str, documented))}"
        for signature in stubbed
        if signature not in documented
    ]


def compare_class(stub: ast.ClassDef, module: object) -> list[str]:
    """What is wrong with the stub of one class."""
    real = getattr(module, stub.name, None)
    if not isinstance(real, type):
        return [f"{stub.name} is not a class of the bindings"]
    problems = []
    if stub.name.endswith("Error"):
        bases = tuple(ast.unparse(base) for base in stub.bases)
        if bases != tuple(base.__name__ for base in real.__bases__):
            problems.append(f"{stub.name} has the bases {real.__bases__}, not {bases}")
    overloads: dict[str, list[Signature]] = {}
    for node in stub.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
            if not isinstance(getattr(real, node.name, None), property):
                problems.append(f"{stub.name}.{node.name} is not a property")
            continue
        overloads.setdefault(node.name, []).append(signature_of(node))
    for name, signatures in overloads.items():
        method = vars(real).get(name)
        if method is None:
            problems.append(f"{stub.name}.{name} does not exist")
        else:
            problems += compare_method(f"{stub.name}.{name}", signatures, parse_docstring(method.__doc__))
    return problems


def differences(source: str, module: object) -> list[str]:
    """Everything in the stub's source that the module contradicts, and every error class that the stub lacks."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    problems = [problem for stub in classes for problem in compare_class(stub, module)]
    missing = {name for name in dir(module) if name.endswith("Error")} - {stub.name for stub in classes}
    return problems + [f"the stub lacks {name}" for name in sorted(missing)]


def test_the_stub_says_what_the_docstrings_say() -> None:
    assert differences(STUB.read_text(), installed) == []


PLANTS = {
    "a wrong name": (
        "def releaseXferReq(self, arg0: _Int, /)",
        "def releaseXferReq(self, handle: _Int, /)",
        "nixlAgent.releaseXferReq(handle (by position)) -> nixl_status_t is not among "
        "(arg0 (by position)) -> nixl_status_t",
    ),
    "a name where the bindings have none": (
        "def getXferStatus(self, arg0: _Int, /)",
        "def getXferStatus(self, arg0: _Int)",
        "nixlAgent.getXferStatus(arg0) -> nixl_status_t is not among (arg0 (by position)) -> nixl_status_t",
    ),
    "an extra parameter": (
        "def getXferTelemetry(self, reqh: _Int)",
        "def getXferTelemetry(self, reqh: _Int, force: bool = False)",
        "nixlAgent.getXferTelemetry(reqh, force=False) -> nixlXferTelemetry is not among (reqh) -> nixlXferTelemetry",
    ),
    "parameters in another order": (
        "descs: nixlRegDList, backends: Sequence[_Int] = []) -> nixl_status_t: ...\n    def deregisterMem",
        "backends: Sequence[_Int], descs: nixlRegDList) -> nixl_status_t: ...\n    def deregisterMem",
        "nixlAgent.registerMem(backends, descs) -> nixl_status_t is not among (descs, backends=[]) -> nixl_status_t",
    ),
    "a wrong default": (
        'def sendLocalMD(self, ip_addr: str = "", port: _Int = 0)',
        'def sendLocalMD(self, ip_addr: str = "", port: _Int = 8888)',
        "nixlAgent.sendLocalMD(ip_addr='', port=8888) -> None is not among (ip_addr='', port=0) -> None",
    ),
    "a default where the bindings have none": (
        "def fetchRemoteMD(self, remote_agent: str,",
        'def fetchRemoteMD(self, remote_agent: str = "",',
        "nixlAgent.fetchRemoteMD(remote_agent='', ip_addr='', port=0, label='') -> None is not among "
        "(remote_agent, ip_addr='', port=0, label='') -> None",
    ),
    "a wrong returned type": (
        "def loadRemoteMD(self, arg0: str | bytes, /) -> bytes",
        "def loadRemoteMD(self, arg0: str | bytes, /) -> str",
        "nixlAgent.loadRemoteMD(arg0 (by position)) -> str is not among (arg0 (by position)) -> bytes",
    ),
    "a wrong overload": (
        "def prepXferDlist(self, descs: nixlXferDList, backend",
        "def prepXferDlist(self, descs: nixlXferDList, backends",
        "nixlAgent.prepXferDlist(descs, backends=[]) -> int is not among (agent_name, descs, backend=[]) -> int; "
        "(descs, backend=[]) -> int; (agent_name, mem_type, descs, backend=[]) -> int",
    ),
    "a method that does not exist": (
        "def getLocalMD(self)",
        "def getLocalMetadata(self)",
        "nixlAgent.getLocalMetadata does not exist",
    ),
    "a property that does not exist": (
        "def totalBytes(self)",
        "def bytesTotal(self)",
        "nixlXferTelemetry.bytesTotal is not a property",
    ),
    "an error class left out": (
        "class nixlCancelledError(Exception): ...\n",
        "",
        "the stub lacks nixlCancelledError",
    ),
    "an error class too many": (
        "class nixlCancelledError(Exception): ...\n",
        "class nixlCancelledError(Exception): ...\nclass nixlImaginaryError(Exception): ...\n",
        "nixlImaginaryError is not a class of the bindings",
    ),
    "an error class with another base": (
        "class nixlBackendError(Exception)",
        "class nixlBackendError(RuntimeError)",
        "nixlBackendError has the bases (<class 'Exception'>,), not ('RuntimeError',)",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_mistake_is_found(plant: str, tmp_path: Path) -> None:
    old, new, expected = PLANTS[plant]
    source = STUB.read_text()
    assert source.count(old) == 1, "the plant no longer fits the stub"
    planted = tmp_path / STUB.name
    planted.write_text(source.replace(old, new))
    assert differences(planted.read_text(), installed) == [expected]
