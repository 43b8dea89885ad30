"""Keys of the flow map, and what a lookup answers when there is no map."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.attest.flowmap import FlowMap
from appliance.attest.layouts import address_text, flow_key, packed_address, parse_key
from appliance.model.errors import EnvironmentFailed, InternalError, PeerError

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ports = st.integers(0, 65535)


@given(st.integers(0, 2**64 - 1), addresses, ports, addresses, ports, st.sampled_from([6, 17]))
def test_a_key_comes_back(netns: int, peer: str, peer_port: int, local: str, local_port: int, protocol: int) -> None:
    key = flow_key(netns, (peer, peer_port), (local, local_port), protocol)
    assert len(key) == 48
    expected = (netns, packed_address(peer), peer_port, packed_address(local), local_port, protocol)
    assert parse_key(key) == expected


@given(st.ip_addresses(v=4).map(str))
def test_mapped_is_the_same(address: str) -> None:
    assert packed_address(address) == packed_address(f"::ffff:{address}")
    assert address_text(packed_address(address)) == address


@given(st.text(max_size=40))
def test_no_address(text: str) -> None:
    try:
        packed_address(text)
    except PeerError:
        pass  # the one error that there is


@given(st.binary(max_size=60))
def test_garbage_is_no_key(data: bytes) -> None:
    try:
        parse_key(data)
    except PeerError:
        pass  # the one error that there is


def test_not_a_map() -> None:
    with open(os.devnull) as file:
        flows = FlowMap(file.fileno())
        with pytest.raises(EnvironmentFailed, match="cannot be read"):
            flows.lookup(bytes(48))
        with pytest.raises(InternalError):
            flows.lookup(b"short")
