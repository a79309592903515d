"""A client for operations of administrators, by the standard library: commands that use it need no extra."""

import argparse
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlencode

from aibrix_extproc.cli.connection import where

TIMEOUT_SECONDS: Final = 30.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_PAUSES: Final = (0.5, 1.0)  # before another try
ONLY_NEW: Final[Mapping[str, str]] = MappingProxyType({"if-none-match": "*"})  # replace nothing
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class AdminError(Exception):
    """The API refused, or nobody answers; one sentence. `code` is OpenAI's error code if there is one."""

    def __init__(self, message: str, code: str | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class AdminClient:
    """A client of the API behind a base URL, with an administrator's key."""

    def __init__(self, base_url: str, key: str) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._key = key

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] = _NONE) -> dict[str, Any]:
        """The JSON answer. What only reads is asked again if the server fails. Raises AdminError."""
        for pause in _PAUSES if method == "GET" else ():
            try:
                return self._asked(method, path, body, headers)
            except AdminError as error:
                if error.status < 500:
                    raise
            time.sleep(pause)
        return self._asked(method, path, body, headers)

    def _asked(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> dict[str, Any]:
        with self._answer(method, path, body, headers) as answer:
            found: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
            return found

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The data of server-sent events, each of one line, until the stream ends. Raises AdminError."""
        with self._answer("GET", path) as answer:
            while line := answer.readline(MAX_ANSWER_BYTES):
                if line.startswith(b"data:"):
                    yield json.loads(line.removeprefix(b"data:"))

    @contextmanager
    def _answer(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] = _NONE
    ) -> Iterator[HTTPResponse]:
        request = urllib.request.Request(
            self._root + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self._key}", "content-type": "application/json", **headers},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except (OSError, ValueError, HTTPException) as error:
            raise AdminError(f"nothing answers at {self._root}; see --base-url") from error

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """The objects of a list, page after page. Raises AdminError."""
        after: dict[str, str] = {}
        while True:
            page = self.ask("GET", f"{path}?{urlencode({'limit': '1000', **query, **after})}")
            yield from page["data"]
            if not page["has_more"] or not page["last_id"]:
                return
            after = {"after": page["last_id"]}


def admin_client(args: argparse.Namespace) -> AdminClient:
    """By the options of a connection. Raises UsageError."""
    return AdminClient(*where(args, admin=True))


def segment(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def refusal_text(url: str, status: int, code: str | None, message: str, *, admin: bool) -> str:
    """The sentence about a refused request. `message` is empty if the answer is no error of the API.

    `admin`: for an operation of administrators, whose refusal may hide that it exists.
    """
    if not message:
        return f"{url.partition('?')[0]} answered HTTP {status} without an error of the API; see --base-url"
    if admin and status == 404 and (code == "unknown_url" or message.startswith("Invalid URL")):
        hint = "Operations of administrators need an administrator's key, and a metadata service."
        return f"{message.removesuffix('.')}. {hint}"
    return message


def _refusal(error: urllib.error.HTTPError) -> AdminError:
    try:
        found = json.loads(error.read(MAX_ANSWER_BYTES))["error"]
        message, code = str(found["message"]), found["code"]
    except (OSError, ValueError, KeyError, TypeError):
        message, code = "", None
    return AdminError(refusal_text(error.url, error.code, code, message, admin=True), code, error.code)
