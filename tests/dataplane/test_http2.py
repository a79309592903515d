"""HTTP/2 with prior knowledge, frame by frame (acceptance HDR-09)."""

import json
import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import pytest

from tests.dataplane.stack import Stack


@dataclass
class Reply:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False


def ask(stack: Stack, bodies: list[bytes], trailers: list[tuple[str, str]] | None = None) -> list[Reply]:
    """All requests at once on one connection."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    replies: dict[int, Reply] = {}
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60.0) as wire:
        connection.initiate_connection()
        for body in bodies:
            stream = connection.get_next_available_stream_id()
            key = stack.api_keys[0] if stack.api_keys else "any"
            replies[stream] = Reply()
            head = [(":method", "POST"), (":scheme", "http"), (":authority", "gateway"),
                    (":path", "/v1/chat/completions"), ("authorization", f"Bearer {key}"),
                    ("content-type", "application/json")]  # fmt: skip
            connection.send_headers(stream, head)
            connection.send_data(stream, body, end_stream=trailers is None)
            if trailers is not None:
                connection.send_headers(stream, trailers, end_stream=True)
        wire.sendall(connection.data_to_send())
        while not all(reply.ended for reply in replies.values()):
            for event in connection.receive_data(wire.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    replies[event.stream_id].headers = {str(k): str(v) for k, v in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    replies[event.stream_id].body += event.data or b""
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    replies[event.stream_id].ended = True
            wire.sendall(connection.data_to_send())
    return list(replies.values())


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "chat-m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def test_hdr_09_http_2_carries_answers_streams_and_errors_on_one_connection(stack: Stack) -> None:
    whole, stream, refused = ask(stack, [chat(), chat(stream=True), chat(model="nope")])
    assert whole.headers[":status"] == "200"
    assert json.loads(whole.body)["object"] == "chat.completion"
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert refused.headers[":status"] == "404"
    assert json.loads(refused.body)["error"]["code"] == "model_not_found"
    assert len({reply.headers["x-request-id"] for reply in (whole, stream, refused)}) == 3


@pytest.mark.slow
def test_hdr_09_http_2_carries_fifty_streams_at_once(stack: Stack) -> None:
    replies = ask(stack, [chat(stream=True, max_tokens=20) for _ in range(50)])
    assert all(reply.headers[":status"] == "200" and reply.body.endswith(b"data: [DONE]\n\n") for reply in replies)
