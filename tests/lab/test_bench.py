"""The benchmark measures what it says, and can fail. What this machine achieves is nobody's business here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from kvsender_nixl.lab import bench
from kvsender_nixl.lab.bench_sides import Measured
from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_nixl.lab.samples import MIN_SAMPLES
from kvsender_spec.contract import KVPoll

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
SENDS: Final = [
    f"{kind}, {pages}"
    for kind in ("contiguous", "scattered")
    for pages in ("1 page", "16 pages", "128 pages", "512 pages")
]
ROWS: Final = {
    "send": SENDS,
    "post": SENDS,
    "poll": ["1 in flight", "8 in flight", "64 in flight", "complete"],
    "room": [f"{kind}, {pages} pages" for kind in ("contiguous", "scattered") for pages in (16, 128)],
    "read": ["contiguous, 1 page", "contiguous, 512 pages"],
    "read-poll": ["64 in flight", "complete"],
}


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvsender_nixl.lab.bench", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_quick(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = run("--quick", "--json", str(path))
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(path.read_text())
    assert {part["part"]: [row["name"] for row in part["rows"]] for part in report["parts"]} == ROWS
    verdicts = []
    for part in report["parts"]:
        for row in part["rows"]:
            assert row["name"] in done.stdout
            series = [row["ours"], row["bare"], *([row["indices"]] if row["indices"] else [])]
            for number in (row["ratio_min"], row["ratio_cpu_median"], *(n for one in series for n in one.values())):
                assert math.isfinite(number)
                assert number > 0
            for one in series:
                assert one["samples"] >= MIN_SAMPLES
                assert one["min_us"] <= one["median_us"]
            barred = part["part"] in ("send", "read") or row["name"] == "64 in flight"
            assert (row["limit_us"] is not None) == barred
            if barred:
                assert row["verdict"] == ("ok" if row["ours"]["min_us"] <= row["limit_us"] else "over")
                verdicts.append(row["verdict"])
    assert report["verdict"] == ("over" if "over" in verdicts else "ok")
    assert done.returncode == ("over" in verdicts)
    assert ("every bar is met" in done.stdout) != ("missed bars: " in done.stdout)


def spin(us: float) -> None:
    until = time.perf_counter_ns() + us * 1000
    while time.perf_counter_ns() < until:
        pass


def slow(measured: Measured) -> Measured:
    """Wastes time in the calls that are measured."""

    def hand_over(kv_indices: NDArray[np.int32]) -> None:
        spin(100)
        measured.hand_over(kv_indices)

    def poll() -> KVPoll:
        spin(5)
        return measured.poll()

    return Measured(hand_over, poll, measured.clear)


@pytest.fixture
def _nixl_env() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in NIXL_ENV}
    os.environ.update(NIXL_ENV)
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.mark.usefixtures("_nixl_env")
def test_slow_sender_is_over() -> None:
    parts = {part.key: part for part in bench.measure(bench.QUICK, slow)}
    verdicts = {key: {row.name: row.verdict for row in part.rows} for key, part in parts.items()}
    # Where the bare calls take half a millisecond the bar lets 100 us pass, as it should.
    assert {verdict for name, verdict in verdicts["send"].items() if name != "scattered, 512 pages"} == {"over"}
    assert set(verdicts["read"].values()) == {"over"}
    assert verdicts["poll"]["64 in flight"] == verdicts["read-poll"]["64 in flight"] == "over"
    assert {key for key, part in parts.items() if part.missed} == {"send", "poll", "read", "read-poll"}
    assert b"over" in bench.to_json(list(parts.values()))


def test_wrong_use(tmp_path: Path) -> None:
    unwritable = str(tmp_path / "no" / "such" / "folder.json")
    for arguments in (("--json", unwritable), ("--unknown",)):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert unwritable in run("--json", unwritable).stderr.replace("\n", "")


def test_without_nixl(tmp_path: Path) -> None:
    (tmp_path / "nixl").mkdir()
    (tmp_path / "nixl" / "__init__.py").write_text("raise ImportError('hidden by the test')\n")
    done = run("--quick", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install nixl" in done.stderr
    assert "Traceback" not in done.stderr
