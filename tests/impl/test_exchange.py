"""What is said on the wire, and that anything else is a ValueError (KS-7.1)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.impl.rig import ManualClock, ids

from kvsender_nixl.buffers import Layout, Region
from kvsender_nixl.exchange import PeerMetadata, TransferInfo, parse_message
from kvsender_nixl.listener import fetch_metadata
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    Notification,
    SuccessNotification,
    parse_notification,
)

KV = Layout((Region(4096, 16, 4), Region(8192, 8, 4)), "VRAM", 1)
METADATA = PeerMetadata("decode", b"\x00blob\xff", KV, Layout((Region(1, 2, 3),)), "p-1")
INFO = TransferInfo(7, "token-1", "decode", ids(3, 1, 2), 5, False, 2, incarnation="p-1")


@pytest.mark.parametrize("metadata", [METADATA, PeerMetadata("decode", b"", KV, None)])
def test_peer_metadata(metadata: PeerMetadata) -> None:
    assert parse_message(metadata.to_bytes()) == metadata


@pytest.mark.parametrize("info", [INFO, TransferInfo(-1, "t", "decode", ids(), None, True, 1)])
def test_transfer_info(info: TransferInfo) -> None:
    parsed = parse_message(info.to_bytes())
    assert isinstance(parsed, TransferInfo)
    assert parsed.dst_kv_indices.dtype == np.int32
    assert parsed.dst_kv_indices.tolist() == info.dst_kv_indices.tolist()
    assert vars(parsed).keys() == vars(info).keys()
    for name in ("room", "token", "agent_name", "dst_aux_index", "is_dummy", "required_dst_info_num", "incarnation"):
        assert getattr(parsed, name) == getattr(info, name)


@pytest.mark.parametrize(
    "notification",
    [
        ChunkNotification(7, "t", 3),
        AuxNotification(-7, "t"),
        SuccessNotification(7, "t", 0, False),
        SuccessNotification(2**63, "t", 12, True),
        FailureNotification(7, "t", True, "nixlBackendError: broken in two"),
        FailureNotification(7, "t", False, ""),
    ],
)
def test_notifications(notification: Notification) -> None:
    assert parse_notification(notification.to_bytes()) == notification


def test_reasons_are_one_short_line() -> None:
    parsed = parse_notification(FailureNotification(7, "t", True, "a\nb \udcff" + "x" * 9999).to_bytes())
    assert isinstance(parsed, FailureNotification)
    assert parsed.reason.startswith("a b ?xx")
    assert len(parsed.reason) <= 500


def test_damaged_messages_say_what_is_wrong() -> None:
    def changed(message: bytes, **fields: object) -> bytes:
        return json.dumps({**json.loads(message), **fields}).encode()

    for message, why in (
        (b"\xff", "not UTF-8"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a message of kvs1"),
        (changed(INFO.to_bytes(), protocol="kvs2"), "not a message of kvs1"),
        (changed(INFO.to_bytes(), kind="other"), "unknown kind"),
        (changed(INFO.to_bytes(), room="7"), "room is '7', not an integer"),
        (changed(INFO.to_bytes(), room=True), "room is True"),
        (changed(INFO.to_bytes(), token=""), "token ''"),
        (changed(INFO.to_bytes(), agent_name=""), "agent_name is empty"),
        (changed(INFO.to_bytes(), dst_kv_indices="?"), "not base64"),
        (changed(INFO.to_bytes(), dst_kv_indices="AAA="), "2 bytes of int32"),
        (changed(INFO.to_bytes(), dst_kv_indices="AAAAAAAAAAA="), "names a page twice"),
        (changed(INFO.to_bytes(), is_dummy=1), "is_dummy is 1"),
        (changed(INFO.to_bytes(), required_dst_info_num=0), "required_dst_info_num is 0"),
        (changed(METADATA.to_bytes(), agent_metadata="AAAA"), "damaged"),
        (changed(INFO.to_bytes(), incarnation=None), "incarnation is None, not a string"),
        (changed(INFO.to_bytes(), incarnation="a b"), "incarnation 'a b' is not 0 to 64"),
        (changed(METADATA.to_bytes(), incarnation=7), "incarnation is 7, not a string"),
        (changed(METADATA.to_bytes(), incarnation="x" * 65), "is not 0 to 64"),
        (changed(METADATA.to_bytes(), kv=None), "kv is not a layout"),
        (changed(METADATA.to_bytes(), kv={"regions": [[1, 2]]}), "mem_type is None"),
        (changed(METADATA.to_bytes(), kv={"regions": [[1, 2]], "mem_type": "DRAM"}), r"regions has \[1, 2\]"),
        (changed(METADATA.to_bytes(), kv={"regions": [[2**70, 2, 3]], "mem_type": "DRAM"}), "regions has"),
        (changed(METADATA.to_bytes(), kv={"regions": [], "mem_type": "DRAM", "device": 0}), "at least one region"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_message(message)
    for message in (b"", b"kvs1", b"kvs1 chunk 7 t", b"kvs1 chunk 7 t x", b"kvs2 aux 7 t", b"kvs1 aux 7 " + b"t" * 65):
        with pytest.raises(ValueError, match=r"kvs1|is not a"):
            parse_notification(message)


@given(
    st.binary()
    | st.sampled_from([METADATA.to_bytes(), INFO.to_bytes()]).flatmap(
        lambda whole: st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
            lambda hit: whole[: hit[0]] + bytes([hit[1]]) + whole[hit[0] + 1 :]
        )
    )
)
def test_nothing_but_value_errors(message: bytes) -> None:
    for parse in (parse_message, parse_notification):
        try:
            parse(message)
        except ValueError:
            continue


class Listener:
    """Answers from the ``needed``-th fetch on."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.fetches = 0

    def fetch_remote_metadata(self, remote_agent: str, ip_addr: str, port: int) -> None:
        self.fetches += 1

    def check_remote_metadata(self, agent: str) -> bool:
        return self.fetches >= self.needed


def test_fetch_metadata_repeats_and_gives_up() -> None:
    clock = ManualClock()

    def sleep(seconds: float) -> None:
        clock.now += seconds

    second = Listener(2)
    fetch_metadata(second, "prefill", "127.0.0.1", 1, clock=clock, sleep=sleep)
    assert second.fetches == 2
    with pytest.raises(TimeoutError, match=r"no metadata of agent 'prefill' from 127\.0\.0\.1:1 within 3"):
        fetch_metadata(Listener(99), "prefill", "127.0.0.1", 1, timeout_s=3, clock=clock, sleep=sleep)
