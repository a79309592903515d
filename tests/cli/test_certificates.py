"""`aibrix-extproc certificates`: what it writes works in real handshakes, at each step of a rotation."""

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
import yaml

from aibrix_extproc.cli.certificates import CLIENT_NAMES, SERVER_NAMES
from aibrix_extproc.cli.main import main
from aibrix_extproc.tls.client_ca import read_authorities
from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.files import read_pair


def certificates(folder: Path, *words: str) -> None:
    assert main(["certificates", str(folder), *words]) == 0


def server(folder: Path) -> ServerCredentials:
    """As `serve` reads them."""
    pair = read_pair(folder / "server" / "tls.crt", folder / "server" / "tls.key")
    return ServerCredentials(pair, read_authorities(folder / "server" / "ca.crt"), CLIENT_NAMES)


def envoy(folder: Path) -> ssl.SSLContext:
    """As an Envoy does."""
    end = folder / "envoy"
    context = ssl.create_default_context(cafile=str(end / "ca.crt"))
    context.load_cert_chain(end / "tls.crt", end / "tls.key")
    return context


async def meet(at: ServerCredentials, client: ssl.SSLContext) -> bool:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=at.context)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname=SERVER_NAMES[0]
            )
            heard = await reader.read(5)
            writer.close()
            return heard == b"hello"
    except (ssl.SSLError, ConnectionError):
        return False
    finally:
        listening.close()


async def test_ends_meet_and_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    certificates(folder)
    assert await meet(server(folder), envoy(folder))
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_renewed_certificates_meet_those_of_before(tmp_path: Path) -> None:
    certificates(tmp_path)
    before = server(tmp_path), envoy(tmp_path)
    certificates(tmp_path, "renew", "--days", "30")
    assert server(tmp_path).pair != before[0].pair
    assert await meet(before[0], envoy(tmp_path))
    assert await meet(server(tmp_path), before[1])


async def test_authority_is_replaced_step_by_step_and_neighbours_always_meet(tmp_path: Path) -> None:
    certificates(tmp_path)
    states = [(server(tmp_path), envoy(tmp_path))]
    for step in ("introduce", "switch", "retire"):
        certificates(tmp_path, step)
        states.append((server(tmp_path), envoy(tmp_path)))
        (old_server, old_envoy), (new_server, new_envoy) = states[-2:]
        assert await meet(old_server, new_envoy)
        assert await meet(new_server, old_envoy)
    assert not await meet(states[-1][0], states[0][1])


def test_secrets_are_what_the_component_mounts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificates(tmp_path, "--namespace", "aibrix-extproc-system")
    secrets = {one["metadata"]["name"]: one for one in yaml.safe_load_all(capsys.readouterr().out)}
    assert set(secrets) == {"aibrix-extproc-server-tls", "aibrix-extproc-envoy-tls"}
    for end, name in (("server", "aibrix-extproc-server-tls"), ("envoy", "aibrix-extproc-envoy-tls")):
        assert secrets[name]["metadata"]["namespace"] == "aibrix-extproc-system"
        for file in ("tls.crt", "tls.key", "ca.crt"):
            assert base64.b64decode(secrets[name]["data"][file]) == (tmp_path / end / file).read_bytes()
        assert set(secrets[name]["data"]) == {"tls.crt", "tls.key", "ca.crt"}  # never the authority's key


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (("switch",), "first introduce"),
        (("retire",), "first make the authority"),
        (("renew", "introduce", "introduce"), "first switch to it"),
    ],
)
def test_step_out_of_turn_is_refused(
    tmp_path: Path, steps: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [main(["certificates", str(tmp_path), step]) for step in steps]
    assert codes == [0] * (len(steps) - 1) + [1]
    assert said in capsys.readouterr().err
