"""The lines for nginx in docs/proxies.md, in a real nginx in front of Envoy, and nginx as it is without them."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, LOOPBACK, send
from tests.dataplane.stack import Stack
from tests.ports import free_port
from tests.waiting import eventually

NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
PAGE: Final = Path(__file__).parents[2] / "docs" / "proxies.md"
CHAT: Final[dict[str, Any]] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6}
BARE: Final = "server {\n    listen 8081;\n    location / { proxy_pass http://127.0.0.1:8080; }\n}\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="needs nginx (apt-get install nginx-light, brew install nginx)"),
]


def lines_of_the_page() -> str:
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(params=["page", "bare"])
def proxy(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Which lines it has, and its port."""
    assert NGINX is not None
    port = free_port()
    lines = lines_of_the_page() if request.param == "page" else BARE
    lines = lines.replace("127.0.0.1:8080", f"{LOOPBACK}:{stack.port}").replace(
        "listen 8081", f"listen {LOOPBACK}:{port}"
    )
    places = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{lines}}}\n"
    )
    process = subprocess.Popen(
        [NGINX, "-c", str(configuration), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    )
    try:
        eventually(lambda: socket.socket().connect_ex((LOOPBACK, port)) == 0, "nginx listens")
        yield request.param, port
    finally:
        process.terminate()
        process.wait(60)


def test_nginx_with_our_lines_streams_and_without_them_is_told_what_to_do(proxy: tuple[str, int], stack: Stack) -> None:
    lines, port = proxy
    key = {"authorization": f"Bearer {stack.api_keys[0]}"}
    assert send(port, "GET", "/healthz").status == 200
    asked = json.dumps(CHAT | {"stream": True}).encode()
    if lines == "bare":
        answer = send(port, "POST", "/v1/chat/completions", JSON | key, asked)
        assert_openai_error(answer, 426, code="stream_over_http_1_0", param="stream")
        return
    with openai.OpenAI(base_url=f"http://{LOOPBACK}:{port}/v1", api_key=stack.api_keys[0], max_retries=0) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        assert len(list(stream)) >= 6
        cut = client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-sim-fault": "reset-mid-stream"})
        with pytest.raises(openai.APIError):
            list(cut)
    large = CHAT | {"messages": [{"role": "user", "content": "x" * 2_000_000}]}
    answer = send(port, "POST", "/v1/chat/completions", JSON | key, json.dumps(large).encode())
    assert_openai_error(answer, 400, code="context_length_exceeded")
