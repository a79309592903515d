"""The certificate of the listener: made at start, read from files, followed when they change."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from aibrix_extproc.app.parts.certificate import CertificateStore
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import Pace
from aibrix_extproc.settings import ServerSettings, Tls
from aibrix_extproc.tls.authority import make_authority
from aibrix_extproc.tls.credentials import KeyPair
from aibrix_extproc.tls.self_signed import make_pair
from tests.waiting import until

FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)
PAIR, OTHER = make_pair(["one"]), make_pair(["two"])


def write(folder: Path, pair: KeyPair) -> None:
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)


def of_files(folder: Path) -> ServerSettings:
    return ServerSettings(tls=Tls.FILES, tls_cert=folder)


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[CertificateStore]:
    store = CertificateStore(of_files(folder), pace=FAST)
    task = asyncio.ensure_future(store.run())
    try:
        yield store
    finally:
        task.cancel()


def test_self_signed_certificate_names_where_we_listen_and_what_was_asked_for() -> None:
    store = CertificateStore(ServerSettings(host="10.1.2.3", tls=Tls.SELF_SIGNED, tls_names=("epp.default.svc",)))
    names = store.report()["names"]
    assert isinstance(names, list)
    assert {"localhost", "127.0.0.1", "::1", "10.1.2.3", "epp.default.svc"} <= set(names)
    assert not store.degraded
    assert store.wall_expires_at > time.time() + 9 * 365 * 86400


def test_self_signed_certificate_is_another_one_each_time() -> None:
    settings = ServerSettings(tls=Tls.SELF_SIGNED)
    first, second = CertificateStore(settings), CertificateStore(settings)
    assert first.credentials.pair.key != second.credentials.pair.key


def test_listening_everywhere_names_no_unspecified_address() -> None:
    names = CertificateStore(ServerSettings(host="0.0.0.0", tls=Tls.SELF_SIGNED)).report()["names"]
    assert isinstance(names, list)
    assert "0.0.0.0" not in names


def test_key_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    store = CertificateStore(of_files(tmp_path))
    assert "PRIVATE" not in repr(store.credentials.pair) + str(store.report())


def test_files_may_have_any_names(tmp_path: Path) -> None:
    certificate, key = tmp_path / "chain.pem", tmp_path / "secret.pem"
    certificate.write_bytes(PAIR.certificate + OTHER.certificate)
    key.write_bytes(PAIR.key)
    store = CertificateStore(ServerSettings(tls=Tls.FILES, tls_cert=certificate, tls_key=key))
    assert store.report()["names"] == ["one"]


def encrypted(pair: KeyPair) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pair.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def an_rsa_key() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.mark.parametrize(("certificate", "key", "said"), [
    (None, PAIR.key, "tls.crt: the certificate cannot be read: No such file or directory"),
    (PAIR.certificate, None, "tls.key: the key of the certificate cannot be read"),
    (b"", PAIR.key, "tls.crt: no certificate in PEM form"),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", PAIR.key, "tls.crt: no certificate in PEM"),
    (PAIR.certificate, b"nonsense", "tls.key: no private key in PEM form"),
    (PAIR.certificate, PAIR.certificate, "tls.key: no private key in PEM form"),
    (PAIR.certificate, OTHER.key, "the key does not belong to the first certificate of"),
    (PAIR.certificate, an_rsa_key(), "the key does not belong to the first certificate of"),
    (PAIR.certificate, encrypted(PAIR), "tls.key: the key is encrypted"),
    (bytes(300_000), PAIR.key, "tls.crt: the certificate is over 262144 bytes"),
], ids=["no certificate", "no key", "empty", "no DER", "no PEM", "swapped", "another key", "another kind", "encrypted",
        "large"])  # fmt: skip
def test_pair_that_cannot_be_used_is_refused_at_start_in_words(
    tmp_path: Path, certificate: bytes | None, key: bytes | None, said: str
) -> None:
    for name, content in (("tls.crt", certificate), ("tls.key", key)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="^" + str(tmp_path)) as refusal:
        CertificateStore(of_files(tmp_path))
    assert said in str(refusal.value)


async def test_changed_files_are_followed(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    async with following(tmp_path) as store:
        await until(lambda: not store.degraded)
        write(tmp_path, OTHER)
        await until(lambda: store.credentials.pair == OTHER)
        assert store.report()["names"] == ["two"]


async def test_change_of_the_key_alone_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, PAIR)
    async with following(tmp_path) as store:
        await until(lambda: not store.degraded)
        (tmp_path / "tls.key").write_bytes(OTHER.key)
        await until(lambda: store.degraded)
        assert store.credentials.pair == PAIR
        assert "does not belong" in str(store.report()["error"])
        assert "certificate files are broken, the last good pair stays in use" in caplog.text
        caplog.set_level(logging.INFO)
        (tmp_path / "tls.crt").write_bytes(OTHER.certificate)
        await until(lambda: not store.degraded)
        assert store.credentials.pair == OTHER
        assert "certificate was replaced" in caplog.text


async def test_swapped_directory_of_a_mounted_secret_is_followed(tmp_path: Path) -> None:
    for name, pair in (("..2026_1", PAIR), ("..2026_2", OTHER)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, pair)
    (tmp_path / "..data").symlink_to("..2026_1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with following(tmp_path) as store:
        await until(lambda: not store.degraded)
        assert store.credentials.pair == PAIR
        (tmp_path / "..data_tmp").symlink_to("..2026_2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        await until(lambda: store.credentials.pair == OTHER)


def test_context_takes_tls_1_2_and_newer() -> None:
    store = CertificateStore(ServerSettings(tls=Tls.SELF_SIGNED))
    assert store.credentials.context.minimum_version is ssl.TLSVersion.TLSv1_2


AUTHORITY, NEXT = make_authority("one", timedelta(days=1)), make_authority("next", timedelta(days=1))


def asking(folder: Path, ca: Path) -> ServerSettings:
    return ServerSettings(tls=Tls.FILES, tls_cert=folder, tls_client_ca=ca, tls_client_names=("envoy",))


async def test_authorities_of_clients_are_followed_and_a_broken_edit_keeps_the_last_good_ones(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(AUTHORITY.certificate)
    store = CertificateStore(asking(tmp_path, tmp_path), pace=FAST)
    running = asyncio.ensure_future(store.run())
    try:
        await until(lambda: not store.degraded)
        assert store.credentials.client_ca == AUTHORITY.certificate
        assert store.credentials.context.verify_mode is ssl.CERT_REQUIRED
        ca.write_bytes(b"nothing")
        await until(lambda: store.degraded)
        assert "no certificate in PEM form" in str(store.report()["clients"])
        assert store.credentials.client_ca == AUTHORITY.certificate
        ca.write_bytes(AUTHORITY.certificate + NEXT.certificate)
        await until(lambda: store.credentials.client_ca != AUTHORITY.certificate)
        write(tmp_path, OTHER)
        await until(lambda: store.credentials.pair == OTHER)
        assert store.credentials.context.verify_mode is ssl.CERT_REQUIRED  # a new certificate does not open the door
        assert not store.degraded
    finally:
        running.cancel()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no certificate in PEM form"),
        (PAIR.key, "no certificate in PEM form"),
        (PAIR.certificate, "is no authority"),
        (AUTHORITY.certificate + PAIR.certificate, "is no authority"),
    ],
)
def test_file_without_authorities_is_refused_at_start(tmp_path: Path, content: bytes, said: str) -> None:
    write(tmp_path, PAIR)
    ca = tmp_path / "clients.pem"
    ca.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        CertificateStore(asking(tmp_path, ca))
