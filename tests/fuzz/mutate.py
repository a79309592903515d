"""Seeded mutations of what goes over the wire: bytes, JSON trees, form parts and header maps.

Nothing here knows what is right; it only makes messages that are a little (or very) wrong. Header values stay what
Envoy lets through: no line breaks and no NUL, any other byte as latin-1.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

Headers = dict[str, str]
MAX_BYTES: Final = 200_000

# What parsers stumble over: escapes that are none, lone surrogates, numbers without bounds, depth, names that count.
TOKENS: Final[tuple[bytes, ...]] = (
    b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":",
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"1" + b"0" * 5000, b'"\\ud800"', b'"\\u0000"',
    b'"\\x"', b"{}", b'{"\\ud800":1}', b"[" * 2000, b'{"a":' * 2000,
    b"[" * 600 + b"]" * 600, b"\r\n", b"\n", b"\r", b"\r\n\r\n",
    b"--", b"--cut\r\n", b"\r\n--cut--\r\n", b'"model":"chat-m",', b'"model":null,', b'"mod\\u0065l":"chat-m",',
    b'"stream":true,', b'"stream_options":{"\\ud800":1,"include_usage":true},', b'"stream_options":null,',
    b'"request_id":"\\ud800",', b'"previous_response_id":"\\ud800",', b'"code":400,', b'"loc":["body",0,"x"],',
    "日本".encode(), b"\xe2\x80\xa8", b"<html>", b"data: {}\n\n", b"x" * 3000, b"%2F", b"{key}", b"{0.__class__}",
)  # fmt: skip
# What is put in front of an object's other members: the fields that routing reads, each in a way that may trip it.
NAMES: Final = (b"model", b"stream", b"stream_options", b"previous_response_id", b"request_id", b"error", b"code", b"x")
MEMBERS: Final = (
    b"null", b"true", b"5", b"[]", b"{}", b'""', b'"chat-m"', b'"\\x"', b'"\\ud800"', b'"\\u0000"', b'"\xff"',
    b'{"\\ud800":1}', b'{"include_usage":true,"include_usage":false}', b"1e999", b"-", b'{"a":}',
    b"[" * 600 + b"]" * 600,
)  # fmt: skip
VALUES: Final[tuple[object, ...]] = (
    None, True, False, 0, -1, 2**63, 10**30, 1.5, 1e308, "", " ", "x", "\ud800", "\x00", "x" * 3000, [], {}, [[]],
    [None], {"": None}, {"a": {"a": {}}}, "chat-m", "body.model", "1 validation error:\n  {'type': 'x', 'loc': ('",
    "'", "{'input': ", "{message}", "(parameter=", ["body", 0, "x"], 400, "400", 599, "model", "²",
)  # fmt: skip
TEXTS: Final[tuple[str, ...]] = (
    "", " ", "\t", "x", "x" * 9000, "\xff", "\x7f", "\x01", '"', '"x', ";", ",", "=", "*", "nan", "inf", "-1", "0",
    "1e999", "1_0", "²", "9" * 5000, "9" * 19, "1, 2", "application/json", "text/html", "text/event-stream",
    "multipart/form-data", "multipart/form-data; boundary=cut", "multipart/form-data; boundary=cut; boundary=x", "gzip",
    "identity", "br, gzip",
    "Bearer", "Bearer ", "Bearer good", "Basic Zm9vOmJhcg==", "least-request", "10.0.0.2:8000", "null", "%", "{x}",
)  # fmt: skip


def some_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes with one to four places changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, end = sorted((rng.randrange(len(changed) + 1), rng.randrange(len(changed) + 1)))
        end = min(end, at + rng.choice((1, 4, 40, len(changed))))
        match rng.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:at] = rng.choice(TOKENS)
            case 2:
                changed[at:end] = rng.choice(TOKENS)
            case 3:
                del changed[at:end]
            case 4:
                changed[at:at] = changed[at:end] * rng.choice((1, 2, 30))
            case 5:
                changed[at:] = rng.choice(others)[at:]
            case _:
                del changed[at:]
    return bytes(changed[:MAX_BYTES])


def _nodes(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Each place of a tree as (container, key)."""
    places = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in places:
        found.append((tree, key))
        _nodes(value, found)
    return found


def json_tree(rng: random.Random, data: bytes) -> bytes:
    """A JSON document with one to three nodes replaced, moved, doubled, renamed or taken out."""
    text = json.dumps({"": json.loads(data)})
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = json.loads(text)  # anew, so that no node is in two places
        places = _nodes(tree, [])
        container, key = rng.choice(places)
        value = container[key]
        match rng.randrange(7):
            case 0:
                container[key] = rng.choice(VALUES)
            case 1:
                source, other = rng.choice(places)
                container[key] = json.loads(json.dumps(source[other]))
            case 2 if container is not tree:
                del container[key]
            case 3:
                container[key] = [value] * rng.choice((1, 2, 20))
            case 4:
                container[key] = {rng.choice(("error", "detail", "message", "0", "")): value}
            case 5 if isinstance(container, dict) and container is not tree:
                container[str(rng.choice(VALUES))] = container.pop(key)
            case _:
                container[key] = str(value)
        changed = json.dumps(tree)
        if len(changed) > MAX_BYTES:
            break
        text = changed
    ascii_only = rng.random() < 0.5
    return json.dumps(json.loads(text)[""], ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def with_member(rng: random.Random, data: bytes) -> bytes:
    """A JSON object with one more member in front."""
    return b'{"%b":%b,%b' % (rng.choice(NAMES), rng.choice(MEMBERS), data[1:])


def form_parts(rng: random.Random, data: bytes) -> bytes:
    """A form with its parts dropped, doubled, shuffled, mutated or put into one another."""
    parts = data.split(b"--cut")
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts.insert(at, parts[at])
            case 1 if len(parts) > 1:
                del parts[at]
            case 2:
                rng.shuffle(parts)
            case 3:
                parts[at] = some_bytes(rng, parts[at], parts)
            case 4:
                inner = (
                    b'\r\nContent-Disposition: form-data; name="model"\r\nContent-Type: multipart/mixed; boundary=in'
                )
                parts.insert(at, inner + b"\r\n\r\n--in\r\n\r\nchat-m\r\n--in--\r\n")
            case _:
                parts[at : at + 1] = [parts[at]] * rng.choice((2, 300))
    return b"--cut".join(parts)


def headers(rng: random.Random, given: Headers, names: Sequence[str]) -> Headers:
    """Headers with one to three dropped, added, emptied or mutated."""
    changed = dict(given)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice((*changed, *names)) if rng.random() < 0.5 and changed else rng.choice(names)
        match rng.randrange(4):
            case 0:
                changed.pop(name, None)
            case 1 if name in changed:
                mutated = some_bytes(rng, changed[name].encode("latin-1", "replace"), (b"",))
                changed[name] = wire_text(mutated)
            case _:
                changed[name] = rng.choice(TEXTS)
    return changed


def wire_text(data: bytes) -> str:
    """Bytes as a header value that Envoy would let through."""
    return data.translate(None, b"\r\n\x00").decode("latin-1")


def body(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A body changed as what it is, or as plain bytes."""
    ways: list[Callable[[], bytes]] = [lambda: some_bytes(rng, data, others)]
    if data[:1] in b"{[" and data:
        ways += [lambda: json_tree(rng, data), lambda: json_tree(rng, data), lambda: with_member(rng, data)]
    if data.startswith(b"--cut"):
        ways += [lambda: form_parts(rng, data)] * 2
    changed = rng.choice(ways)()
    return some_bytes(rng, changed, others) if rng.random() < 0.1 else changed
