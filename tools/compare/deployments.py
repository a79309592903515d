"""The deployments that are compared: how each is started in front of one engine, and its version."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from aibrix_extproc import __version__
from tools.measure.engines import MODEL, free_port

LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 900.0  # LiteLLM alone loads for twenty seconds of CPU
# LiteLLM asks the network for prices, and wants a key of its own, unless it is told.
_SETTINGS: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}  # fmt: skip
_CONFIG: Final = """model_list:
  - model_name: {model}
    litellm_params: {{model: hosted_vllm/{model}, api_base: {engine}/v1, api_key: none}}
"""


@contextmanager
def ours(engine: str, folder: Path) -> Iterator[str]:
    """Our gateway with Envoy and its metadata service."""
    words = [
        sys.executable, "-m", "aibrix_extproc", "local", "--engine", engine, "--port", "0", "--envoy-admin-port", "0",
        "--run-dir", str(folder / "run"), "--json",
    ]  # fmt: skip
    (folder / "run").mkdir()
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start:\n{log.read_text('utf-8')[-3000:]}")
        yield json.loads(line)["base_url"]
    finally:
        _end(process)


@contextmanager
def bare(engine: str, folder: Path) -> Iterator[str]:
    """The engine itself."""
    yield f"{engine}/v1"


@contextmanager
def litellm(engine: str, folder: Path) -> Iterator[str]:
    """LiteLLM's proxy with one model."""
    config = folder / "litellm.yaml"
    config.write_text(_CONFIG.format(model=MODEL, engine=engine), encoding="utf-8")
    port = str(free_port())
    with _serving(["litellm", "--config", config, "--host", LOOPBACK, "--port", port], port, "/health/liveliness"):
        yield f"http://{LOOPBACK}:{port}/v1"


@contextmanager
def smg(engine: str, folder: Path) -> Iterator[str]:
    """SMG with one worker."""
    port = str(free_port())
    words = ["smg", "launch", "--worker-urls", engine, "--host", LOOPBACK, "--port", port]
    with _serving([*words, "--prometheus-port", str(free_port())], port, "/v1/models"):
        yield f"http://{LOOPBACK}:{port}/v1"


Start = Callable[[str, Path], AbstractContextManager[str]]
DEPLOYMENTS: Final[Mapping[str, Start]] = {"aibrix-extproc": ours, "vLLM": bare, "LiteLLM": litellm, "SMG": smg}
PACKAGES: Final[Mapping[str, str]] = {"LiteLLM": "litellm", "SMG": "smg"}


def version_of(name: str, vllm: str, python: Path) -> str:
    """The version of a deployment; of peers what is installed in the environment of `python`."""
    if name not in PACKAGES:
        return __version__ if name == "aibrix-extproc" else vllm
    words = [str(python), "-c", f"from importlib.metadata import version; print(version({PACKAGES[name]!r}))"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def _serving(words: Sequence[str | Path], port: str, path: str) -> Iterator[None]:
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=os.environ | _SETTINGS
    )
    try:
        until = time.monotonic() + _START_SECONDS
        while not _answers(int(port), path):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{words[0]} did not start")
            time.sleep(0.2)
        yield
    finally:
        _end(process)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
