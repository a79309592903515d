"""The endpoint file: its content and its replacement."""

import json
import threading
from pathlib import Path

import pytest

from aibrix_extproc.adapters.envoyproxy.endpoints import parse_address, render_endpoints
from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress
from aibrix_extproc.config_files.replacing import write_atomically


def addresses(rendered: bytes) -> list[tuple[str, int]]:
    [assignment] = json.loads(rendered)["resources"]
    [locality] = assignment["endpoints"]
    found = [one["endpoint"]["address"]["socket_address"] for one in locality["lb_endpoints"]]
    return [(one["address"], one["port_value"]) for one in found]


def test_endpoints_are_listed_once_and_in_order() -> None:
    rendered = render_endpoints(["10.0.0.2:8000", "10.0.0.1:8000", "10.0.0.2:8000"])
    assert addresses(rendered) == [("10.0.0.1", 8000), ("10.0.0.2", 8000)]


def test_same_fleet_in_another_order_renders_the_same_bytes() -> None:
    assert render_endpoints(["10.0.0.2:1", "10.0.0.1:1"]) == render_endpoints(["10.0.0.1:1", "10.0.0.2:1"])


def test_ipv6_address_loses_its_brackets() -> None:
    assert addresses(render_endpoints(["[::1]:8000"])) == [("::1", 8000)]


def test_address_prints_as_the_destination_header_writes_it() -> None:
    assert str(parse_address("[fd00::1]:80")) == "[fd00::1]:80"
    assert str(SocketAddress("10.0.0.1", 80)) == "10.0.0.1:80"


@pytest.mark.parametrize("text", ["", "10.0.0.1", ":80", "10.0.0.1:", "10.0.0.1:http", "10.0.0.1:0", "10.0.0.1:65536"])
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ip:port"):
        parse_address(text)


def test_reader_of_a_replaced_file_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    versions = [json.dumps([number] * 20_000).encode() for number in range(2)]
    write_atomically(path, versions[0])
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for version in versions:
                write_atomically(path, version)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert all(path.read_bytes() in versions for _ in range(200))
    finally:
        stop.set()
        writer.join()
    assert [one.name for one in tmp_path.iterdir()] == ["endpoints.json"]
