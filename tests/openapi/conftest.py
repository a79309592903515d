"""Everything on this machine, as `aibrix-extproc local` starts it: the metadata service is there, too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.local_process import local_process

KEY = "sk-openapi-0123456789abcdef"
MODELS = ("chat", "vec=embed", "rank=rerank", "cls=classify", "asr=audio")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and the document that it gives the owner of a key."""

    origin: str
    key: str
    document: Path


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with _local(tmp_path_factory.mktemp("openapi")) as (origin, folder, _):
        yield Gateway(origin, KEY, _document(origin, KEY, folder))


@pytest.fixture
def administered(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own with an administrator's key: generated operations put its engines to sleep, and more."""
    with _local(tmp_path) as (origin, folder, admin_key):
        key = admin_key.read_text().strip()
        yield Gateway(origin, key, _document(origin, key, folder))


@contextmanager
def _local(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    models = [word for model in MODELS for word in ("--model", model)]
    with local_process(folder, "--engines", "1", "--api-key", KEY, *models) as addresses:
        yield addresses["base_url"].removesuffix("/v1"), folder, Path(addresses["admin_key"])


def _document(origin: str, key: str, folder: Path) -> Path:
    answer = httpx2.get(f"{origin}/v1/openapi.json", headers={"authorization": f"Bearer {key}"}, timeout=60)
    document = folder / "openapi.json"
    document.write_bytes(answer.raise_for_status().content)
    return document
