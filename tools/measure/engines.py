"""The engines that are measured: a real vLLM with tiny models, one for each task, or the simulator."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = "measured"
_START_SECONDS: Final = 900.0  # on a busy machine
_LOOPBACK: Final = "127.0.0.1"
_OURS: Final = (sys.executable, "-m", "aibrix_extproc")


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to start an engine."""

    model: str  # a folder of `tools.measure.models`
    operations: tuple[str, ...]
    vllm: tuple[str, ...] = ()
    simulate: tuple[str, ...] = ()


_TOOLS: Final = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
PROFILES: Final[Mapping[str, Profile]] = {
    "generate": Profile(
        "text",
        ("chat_completion", "completion", "response", "message", "count_tokens", "tokenize", "detokenize",
         "generative_scoring"),
        (*_TOOLS, "--enable-prompt-tokens-details", "--trust-request-chat-template"),
        ("--enable-auto-tool-choice", "--enable-prompt-tokens-details", "--enable-responses-store"),
    ),
    "vision": Profile("vision", (), (*_TOOLS, "--enable-prompt-tokens-details"), ("--multimodal",)),
    "embed": Profile(
        "text", ("embedding", "embed_cohere", "pooling"), ("--runner", "pooling", "--convert", "embed"),
        ("--task", "embed"),
    ),
    "classify": Profile("classes", ("classify",), ("--runner", "pooling"), ("--task", "classify")),
    "score": Profile("pairs", ("score", "rerank"), ("--runner", "pooling"), ("--task", "score")),
    "transcription": Profile("speech", ("transcription", "translation"), (), ("--task", "transcription")),
}  # fmt: skip


@contextmanager
def vllm(
    python: Path, models: Path, profile: Profile, directory: Path, *, path: str = "", rust: bool = False
) -> Iterator[str]:
    """A real engine from start to end; its address. Modules in the folder `path` come before the installed ones."""
    port = free_port()
    cache = str(directory / "cache")
    length = ("--max-model-len", "448") if profile.model == "speech" else ("--max-model-len", "4096")
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CACHE_ROOT": cache, "XDG_CACHE_HOME": cache,
        "VLLM_ENABLE_RESPONSES_API_STORE": "1", "VLLM_USE_RUST_FRONTEND": str(int(rust)),
        "VLLM_HTTP_MAX_REQUEST_BODY_SIZE": str(64 << 20),  # the Rust frontend takes half as much by itself
        "PYTHONPATH": path,
    }  # fmt: skip
    words = [
        str(python), "-W", "ignore", str(python.parent / "vllm"), "serve", str(models / profile.model),
        "--load-format", "dummy", "--served-model-name", MODEL, "--host", _LOOPBACK, "--port", str(port),
        "--enforce-eager", "--max-num-seqs", "8", "--kv-cache-memory-bytes", "67108864", *length, *profile.vllm,
    ]  # fmt: skip
    with _child(words, directory / "engine.log", environment) as process:
        _wait(process, port, directory / "engine.log")
        yield f"http://{_LOOPBACK}:{port}"


@contextmanager
def simulated(profile: Profile, directory: Path, version: str) -> Iterator[str]:
    """The simulator in the place of that engine."""
    port = free_port()
    words = [
        *_OURS, "simulate", "--port", str(port), "--model", MODEL, "--vllm-version", version, "--max-model-len", "4096",
        *profile.simulate,
    ]  # fmt: skip
    with _child(words, directory / "engine.log") as process:
        _wait(process, port, directory / "engine.log")
        yield f"http://{_LOOPBACK}:{port}"


@contextmanager
def gateway(engine: str, keys: Path, directory: Path) -> Iterator[str]:
    """Envoy and the gateway in front of an engine; the address."""
    words = [
        *_OURS, "local", "--engine", engine, "--key-file", str(keys), "--port", "0", "--envoy-admin-port", "0",
        "--no-metadata", "--json", "--run-dir", str(directory / "gateway"),
    ]  # fmt: skip
    (directory / "gateway").mkdir()
    with _child(words, directory / "gateway.log") as process:
        yield json.loads(_line(process, directory / "gateway.log", '"base_url"'))["base_url"].removesuffix("/v1")


@contextmanager
def _child(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server((_LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def _line(process: "subprocess.Popen[bytes]", log: Path, mark: str) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        found = next((line for line in log.read_text().splitlines() if mark in line), None)
        if found:
            return found
        time.sleep(0.1)
    raise RuntimeError(f"{log.stem} did not start:\n{log.read_text()[-3000:]}")


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if _healthy(port):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the engine did not start:\n{log.read_text()[-3000:]}")


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
