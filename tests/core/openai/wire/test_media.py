"""URLs that engines would fetch: found however a request says them, and judged by their host."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.openai.wire.media import MAX_LOOK_ALIKES, MAX_URL_BYTES, MAX_URLS, forbidden_url
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json

ANY = ("*",)
SOME = ("*.example.com", "images.svc", "10.0.0.7")


def body_with(part: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}
                      ).encode()  # fmt: skip


def shapes_of(url: str) -> list[Any]:
    return [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": {"detail": "low", "url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"type": "audio_url", "audio_url": {"url": url}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "input_file", "file_url": url},
        {"type": "image", "source": {"type": "url", "url": url}},
    ]


def is_refused(body: bytes, hosts: tuple[str, ...] = ANY) -> bool:
    found = read_json(body, hosts)
    if isinstance(found, RequestFacts):
        return False
    assert (found.key, found.row.code) == ("media_url_refused", "invalid_image_url")
    return True


@pytest.mark.parametrize("number", range(8))
def test_url_is_found_in_every_kind_of_part(number: int) -> None:
    assert is_refused(body_with(shapes_of("http://127.0.0.1/x")[number]))
    assert not is_refused(body_with(shapes_of("https://example.org/x.png?a=b#c")[number]))
    assert not is_refused(body_with(shapes_of("data:image/png;base64," + "A" * 100_000)[number]))
    spaced = json.dumps(json.loads(body_with(shapes_of("http://[::1]/")[number])), indent=3)
    assert is_refused(spaced.encode())


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/", "http://LOCALHOST:8000/", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/",
        "http://192.168.1.1", "http://172.16.0.1/", "http://0.0.0.0/", "http://127.1/", "http://2130706433/",
        "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://metadata.google.internal/", "http://kubernetes.default.svc/", "http://kubernetes.default.svc.cluster.local",
        "http://engine/", "http://user@example.org/", "http://example.org@127.0.0.1/", "http://127.0.0.1#@example.org/",
        "http://example.org\\@127.0.0.1/", "http://exa mple.org/", "http://127.0.0.1%2f@example.org/", "file:///etc/passwd",
        "ftp://example.org/", "//127.0.0.1/", "http:/127.0.0.1/", "  http://127.0.0.1/", "http://100.64.0.1/",
        "gopher:x", "http://localhost./", "http://./", "http:///x", "http://xn--\u00e9/", "http://\u2460\u2461.example.org/",
    ],
)  # fmt: skip
def test_url_that_leads_inside_or_is_odd_is_refused(url: str) -> None:
    assert is_refused(body_with({"type": "image_url", "image_url": {"url": url}}))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("a.example.com", True), ("A.B.EXAMPLE.COM:8443", True), ("example.com", False), ("example.com.evil.org", False),
     ("images.svc", True), ("other.svc", False), ("10.0.0.7", True), ("10.0.0.8", False), ("8.8.8.8", False)],
)  # fmt: skip
def test_listed_hosts_are_allowed(host: str, allowed: bool) -> None:
    assert is_refused(body_with({"image_url": {"url": f"https://{host}/x"}}), SOME) is not allowed


def test_urls_in_texts_are_nobodys_business() -> None:
    text = 'see "url": "http://127.0.0.1/" and \\u0075rl and {"image_url":"http://localhost"}'
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "url_of": "http://localhost"})
    assert not is_refused(body.encode())
    assert isinstance(read_json(body_with(shapes_of("http://127.0.0.1/")[0])), RequestFacts), "without the setting"


@pytest.mark.parametrize("key", ["\\u0075rl", "ur\\u006c", "u\\u0072l", "im\\u0061ge_url", "image\\u005Furl"])
def test_name_that_is_hidden_by_escapes_is_refused(key: str) -> None:
    assert is_refused(b'{"model":"m","messages":[{"%b":"http://127.0.0.1/"}]}' % key.encode())


def test_url_that_is_hidden_by_escapes_is_read() -> None:
    assert is_refused(b'{"model":"m","messages":[{"url":"http:\\/\\/127.0.0.1\\/"}]}')
    assert is_refused(b'{"model":"m","messages":[{"url":"\\u0020http://127.0.0.1/"}]}')
    assert not is_refused(b'{"model":"m","messages":[{"url":"https:\\/\\/example.org\\/"}]}')


@pytest.mark.parametrize(
    "inner",
    [b'{"url":"https://example.org/"},' * (MAX_URLS + 1), b'{"burl":""},' * (MAX_LOOK_ALIKES + 1),
     b'{"url":"https://example.org/%b"},' % (b"x" * MAX_URL_BYTES)],
    ids=["urls", "look-alikes", "long"],
)  # fmt: skip
def test_too_many_or_too_long_is_refused(inner: bytes) -> None:
    assert is_refused(b'{"model":"m","messages":[%b{}]}' % inner)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        (r"https://a.example.com/\\", False),  # the quote behind two backslashes closes the string
        (r"https://a.example.com/\"", False),  # behind one it does not
        (r"https://a.example.com/\\\"x", False),
        (r"https://other.org/\"", True),
        (r"https://a.example.com/" + r"\"" * 9, True),
    ],
)
def test_string_ends_at_the_quote_that_is_not_escaped(url: str, refused: bool) -> None:
    body = b'{"url":"' + url.encode() + b'","next":"https://a.example.com/"}'
    assert (forbidden_url(body, ("*.example.com",)) is not None) is refused
