"""One engine's HTTP surface, as far as the gateway asks it: health, models, paused or asleep, which routes exist."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from aibrix_extproc.adapters.engine.errors import EngineAnswerInvalid, EngineListUnusable, EngineRefusal, translated
from aibrix_extproc.core.fleet.model import RUST_FRONTEND, ServedModel
from aibrix_extproc.webclient import read_bounded

_RUST_OWNER: Final = "vllm-frontend-rs"
MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 4096  # of one engine; they are read on the event loop
MAX_FLAGS_BYTES: Final = 4096
MAX_VERSION: Final = 256  # characters of a version, of weights or of the engine


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None
    max_model_len: int | None = None
    root: Any = None
    owned_by: Any = ""  # whatever these are, they must not make the list unreadable


class _Cards(msgspec.Struct):
    data: list[msgspec.Raw]  # so that they can be counted before they are read


class _Weights(msgspec.Struct):
    weight_version: str


class _Version(msgspec.Struct):
    version: str


_Decoded = TypeVar("_Decoded")

_WEIGHTS: Final = msgspec.json.Decoder(_Weights)
_VERSION: Final = msgspec.json.Decoder(_Version)
_CARDS: Final = msgspec.json.Decoder(_Cards)
_CARD: Final = msgspec.json.Decoder(_Card)
_FLAGS: Final = msgspec.json.Decoder(dict[str, bool])


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


def engine_session(idle_seconds: float = 15.0) -> aiohttp.ClientSession:
    """A session fit for engines: nothing is followed, decompressed, remembered or taken from the environment.

    Connections that were idle so long are closed.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False, keepalive_timeout=idle_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        headers={"accept-encoding": "identity", "user-agent": "aibrix-extproc"},
    )


class EngineClient:
    """A client of one engine; every failure is an EngineError."""

    def __init__(
        self, session: aiohttp.ClientSession, address: str, api_key: str | None, timeout_seconds: float
    ) -> None:
        self._session = session
        self._address = address
        self._has_key = api_key is not None
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._urls: dict[str, URL] = {}  # as many as there are routes in this file; parsing one costs as much as a send
        self.frontend = ""  # as the list of models told last
        self.allow(timeout_seconds)

    def allow(self, seconds: float) -> None:
        """How long each answer may take from now on."""
        self._timeout_seconds = seconds
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def check_health(self) -> None:
        """Return if the engine says that it is well, or has no route to say so."""
        answer = await self._get("/health")
        if answer.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            raise EngineRefusal(f"its health check answers {answer.status}")

    async def list_models(self) -> tuple[ServedModel, ...] | None:
        """The models that the engine serves; None if it has no such list."""
        answer = await self._get("/v1/models")
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise EngineRefusal(
                "the engine refuses the configured key"
                if self._has_key
                else "the engine wants a key, none is configured"
            )
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status != HTTPStatus.OK:
            raise EngineListUnusable(f"its list of models answers {answer.status}")
        try:
            listed = _CARDS.decode(answer.body).data
            if len(listed) > MAX_MODELS:
                raise EngineListUnusable(f"it lists over {MAX_MODELS} models")
            cards = [_CARD.decode(card) for card in listed]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise EngineListUnusable("its list of models cannot be understood") from error
        self.frontend = RUST_FRONTEND if any(card.owned_by == _RUST_OWNER for card in cards) else ""
        return tuple(_served(card) for card in cards if card.id)

    async def ask_flag(self, path: str, field: str) -> bool | None:
        """A yes or no such as /is_sleeping; None where the engine has no such route."""
        found = await self._small(path, _FLAGS)
        return None if found is None else found.get(field)

    async def weight_version(self) -> str | None:
        """The version of the engine's weights; None where it has no such route."""
        found = await self._small("/weight_info", _WEIGHTS)
        return None if found is None else found.weight_version[:MAX_VERSION]

    async def engine_version(self) -> str | None:
        """The version of the engine's program; None where it has no such route."""
        found = await self._small("/version", _VERSION)
        return None if found is None else found.version[:MAX_VERSION]

    async def _small(self, path: str, decoder: msgspec.json.Decoder[_Decoded]) -> _Decoded | None:
        """A short answer; None where there is no such route, or something else answers there."""
        answer = await self._get(path)
        if answer.status != HTTPStatus.OK or len(answer.body) > MAX_FLAGS_BYTES:
            return None
        try:
            return decoder.decode(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    async def read_text(self, path: str) -> bytes:
        """The text of a page; EngineRefusal where there is none."""
        answer = await self._get(path)
        if answer.status != HTTPStatus.OK:
            raise EngineRefusal(f"{path} answers {answer.status}")
        return answer.body

    async def has_route(self, path: str) -> bool | None:
        """Whether a POST route exists: asked with GET it answers 405, a missing one 404; None for anything else."""
        status = (await self._get(path)).status
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return True
        return False if status == HTTPStatus.NOT_FOUND else None

    async def _get(self, path: str) -> _Answer:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(f"http://{self._address}{path}", encoded=True)
        try:
            async with self._session.get(
                url, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await read_bounded(response.content, MAX_ANSWER_BYTES)
                if body is None:
                    raise EngineAnswerInvalid(f"its answer is over {MAX_ANSWER_BYTES} bytes")
                return _Answer(response.status, body)
        except (aiohttp.ClientError, OSError) as error:
            raise translated(error, self._timeout_seconds) from error


def _served(card: _Card) -> ServedModel:
    path = card.root if card.parent is not None and isinstance(card.root, str) else None
    return ServedModel(card.id, card.parent, card.max_model_len, path)
