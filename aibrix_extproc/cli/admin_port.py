"""A client of a process's admin server by the standard library: loading another one takes longer than the question."""

import http.client
import ipaddress
from collections.abc import Mapping
from typing import Final

from aibrix_extproc.settings import AdminSettings

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class NoAnswerError(Exception):
    """Nobody answers at the admin port, or nothing that speaks HTTP; says why and where."""


def address(admin: AdminSettings) -> str:
    """The URL by which the server can be asked from here."""
    host = _reachable(admin.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{admin.port}"


def ask(
    admin: AdminSettings, method: str, path: str, seconds: float, *, body: bytes | None = None,
    headers: Mapping[str, str] | None = None, most: int = MAX_ANSWER_BYTES,
) -> tuple[int, bytes]:  # fmt: skip
    """The status and at most `most` bytes of the answer. Raises NoAnswerError."""
    shown = address(admin) + path
    connection = http.client.HTTPConnection(_reachable(admin.host), admin.port, timeout=seconds)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(most)
    except TimeoutError as error:
        raise NoAnswerError(f"{shown} did not answer within {seconds:g} s") from error
    except OSError as error:
        raise NoAnswerError(f"{shown}: {error.strerror or error}") from error
    except (http.client.HTTPException, ValueError) as error:  # a header that HTTP cannot carry is a ValueError
        raise NoAnswerError(f"{shown} does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()


def _reachable(host: str) -> str:
    """The address at which a server that listens on every interface can be asked."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not found.is_unspecified:
        return host
    return "::1" if found.version == 6 else "127.0.0.1"
