"""Requests to a Kubernetes API: a whole answer, or the lines of one that does not end. Errors are translated here."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
import msgspec

from aibrix_extproc.adapters.kube.access import ClusterAccess
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeConfigError, KubeUnreachable, VersionGone
from aibrix_extproc.adapters.kube.package import ConfigException, Configuration, RESTClientObject

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 10.0
MAX_LINE_BYTES: Final = 16 * 1024 * 1024  # the API's largest object is a tenth of it
MAX_RETRY_SECONDS: Final = 30.0
USER_AGENT: Final = "aibrix-extproc"
GOOD: Final = frozenset({200, 201, 202})  # 202: a deletion that is not complete yet


class _Status(msgspec.Struct):
    message: str | None = None
    reason: str | None = None
    code: int | None = None


@dataclass(slots=True)
class _Connection:
    """One set of credentials and the connections made with it; closed when its last request has ended."""

    configuration: Configuration
    client: RESTClientObject
    users: int = 0
    retired: bool = False

    async def left(self) -> None:
        if self.retired and self.users == 0:
            await self.client.close()


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    body: Any = None  # what `json.dumps` takes
    also: int | None = None  # another status that counts as a success


class KubeApi:
    """Connections to one API server. After a 401 the credentials are read again."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._connection: _Connection | None = None
        self._loading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.client.close()

    async def get(
        self, path: str, query: Mapping[str, str], *, seconds: float = ANSWER_SECONDS, also: int | None = None
    ) -> bytes:
        """The whole answer. `also`: another status that counts as a success."""
        async with self._answer(
            _Request("GET", path, query, also=also), aiohttp.ClientTimeout(total=seconds)
        ) as response:
            return await response.read()

    async def write(self, method: str, path: str, body: Any, *, seconds: float = WRITE_SECONDS) -> bytes:
        """POST, PUT or DELETE with a JSON body; what the server made of it."""
        async with self._answer(_Request(method, path, {}, body), aiohttp.ClientTimeout(total=seconds)) as response:
            return await response.read()

    async def lines(
        self, path: str, query: Mapping[str, str], *, silence_seconds: float
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of an answer as they come, those that came together in one list; ends when the server ends it.

        The first list is empty: the server has accepted. Raises KubeUnreachable after a silence, because a
        connection whose peer has vanished looks the same.
        """
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )
        rest = b""
        async with self._answer(_Request("GET", path, query), timeout) as response:
            yield []
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield lines
                if len(rest) > MAX_LINE_BYTES:
                    raise KubeUnreachable(f"the API server sent an event of over {MAX_LINE_BYTES} bytes")

    @asynccontextmanager
    async def _answer(self, request: _Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        connection = await self._connected()
        connection.users += 1
        try:
            response = await self._send(connection, request, timeout)
            try:
                if response.status == 401:
                    self._retire(connection)
                if response.status not in GOOD and response.status != request.also:
                    raise _refusal(response.status, await response.content.read(65_536), response.headers)
                yield response
            finally:
                response.close()
        except TimeoutError as error:
            raise KubeUnreachable("the API server was silent for too long") from error
        except (aiohttp.ClientError, OSError) as error:
            raise KubeUnreachable(f"the API server cannot be reached: {error or type(error).__name__}") from error
        finally:
            connection.users -= 1
            await connection.left()

    async def _send(
        self, connection: _Connection, request: _Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        configuration = connection.configuration
        headers = {"accept": "application/json", "user-agent": USER_AGENT}
        try:
            settings = await configuration.auth_settings()  # reads a service account's token again each minute
        except ConfigException as error:
            raise KubeConfigError(f"{self._access.described} cannot be used: {error}") from error
        for setting in settings.values():
            headers[str(setting["key"])] = str(setting["value"])
        query = f"?{urlencode(request.query)}" if request.query else ""
        url = f"{configuration.host}{request.path}{query}"
        answer = await connection.client.request(
            request.method, url, headers=headers, body=request.body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _connected(self) -> _Connection:
        async with self._loading:
            if self._connection is None:
                configuration = await self._access.load()
                configuration.connection_pool_maxsize = 0  # no limit: each watch of each namespace uses one
                try:
                    client = RESTClientObject(configuration)
                except (OSError, ValueError) as error:
                    raise KubeConfigError(f"the certificates of {self._access.described}: {error}") from error
                self._connection = _Connection(configuration, client)
            return self._connection

    def _retire(self, connection: _Connection) -> None:
        """Read the credentials again for the next request; running requests keep the old ones."""
        connection.retired = True
        if self._connection is connection:
            self._connection = None


def _refusal(status: int, body: bytes, headers: Mapping[str, str]) -> KubeApiError:
    message = body[:200].decode("utf-8", "replace").strip()
    with suppress(msgspec.DecodeError):
        message = msgspec.json.decode(body, type=_Status).message or message
    return refused(status, message, headers.get("retry-after", ""))


def refused(status: int, message: str, retry_after: str = "") -> KubeApiError:
    """The error for a Status of the API, whether it is an answer or an event."""
    if status == 410:
        return VersionGone(message)
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return KubeApiError(status, message, min(seconds, MAX_RETRY_SECONDS))
