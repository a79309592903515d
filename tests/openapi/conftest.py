"""Everything on this machine, as `aibrix-extproc local` starts it: the metadata service is there, too."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.local_process import local_process

KEY = "sk-openapi-0123456789abcdef"
MODELS = ("chat", "vec=embed", "rank=rerank", "cls=classify", "asr=audio")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and the document that it gives a user."""

    origin: str
    key: str
    document: Path


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("openapi")
    models = [word for model in MODELS for word in ("--model", model)]
    with local_process(folder, "--engines", "1", "--api-key", KEY, *models) as addresses:
        origin = addresses["base_url"].removesuffix("/v1")
        answer = httpx2.get(f"{origin}/v1/openapi.json", headers={"authorization": f"Bearer {KEY}"}, timeout=60)
        document = folder / "openapi.json"
        document.write_bytes(answer.raise_for_status().content)
        yield Gateway(origin, KEY, document)
