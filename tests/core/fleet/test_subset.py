"""Which endpoints a gateway's hint allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.subset import subset_of


@pytest.mark.parametrize(
    ("texts", "address"),
    [
        (("10.0.0.1:8000",), "10.0.0.1:8000"),
        (("10.0.0.9:8000", "10.0.0.1:8000"), "10.0.0.1:8000"),
        (("10.0.0.9:8000,10.0.0.1:8000",), "10.0.0.1:8000"),
        ((" 10.0.0.9:1 , 10.0.0.1:8000 ,",), "10.0.0.1:8000"),
        (("10.0.0.9", "10.0.0.7,10.0.0.1:8000"), "10.0.0.1:8000"),
        (("10.0.0.1",), "10.0.0.1:8000"),
        (("[fd00::1]:8000",), "[fd00::1]:8000"),
        (("[fd00::1]",), "[fd00::1]:8000"),
        (("fd00::1",), "[fd00::1]:8000"),
        (("[fd00:0:0::1]:8000",), "[fd00::1]:8000"),
        (("FD00::1",), "[fd00::1]:8000"),
    ],
)
def test_subset_allows_what_it_names(texts: tuple[str, ...], address: str) -> None:
    assert subset_of(texts).has(address)


@pytest.mark.parametrize(
    ("texts", "address"),
    [
        ((), "10.0.0.1:8000"),
        (("",), "10.0.0.1:8000"),
        ((" , ",), "10.0.0.1:8000"),
        (("10.0.0.1:8001",), "10.0.0.1:8000"),
        (("10.0.0.1:80",), "10.0.0.1:8000"),
        (("10.0.0.11",), "10.0.0.1:8000"),
        (("[fd00::1]:8001",), "[fd00::1]:8000"),
        (("[fd00::1]:8001", "fd00::2"), "[fd00::1]:8000"),
        (("fd00::1:8000",), "[fd00::1]:8000"),  # without brackets all of it is the address
        (("10.0.0.1:http", ":8000", "[", "]:8000"), "10.0.0.1:8000"),
        (("10.0.0.1",), ""),
    ],
)
def test_subset_allows_nothing_else(texts: tuple[str, ...], address: str) -> None:
    assert not subset_of(texts).has(address)


@given(st.lists(st.text("0123456789abcdef:[],. x%", max_size=20), max_size=4), st.text(max_size=20))
def test_subset_of_any_text_never_raises(texts: list[str], address: str) -> None:
    subset_of(texts).has(address)


@given(st.ip_addresses(), st.integers(1, 65535), st.booleans())
def test_subset_allows_any_address_that_it_names(ip: object, port: int, with_port: bool) -> None:
    host = f"[{ip}]" if ":" in str(ip) else str(ip)
    entry = f"{host}:{port}" if with_port else host
    assert subset_of([entry]).has(f"{host}:{port}")
