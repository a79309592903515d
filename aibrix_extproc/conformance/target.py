"""The deployment under test: where it is, with what key, and what it turned out to have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from aibrix_extproc.conformance.case import Need


class UsageError(Exception):
    """The deployment cannot be tested as asked; its text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the base URL points; `prefix` is what comes before /v1."""

    base_url: str
    is_secure: bool
    host: str
    port: int
    prefix: str
    verifies_tls: bool = True

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"


def origin_of(base_url: str, *, verifies_tls: bool = True) -> Origin:
    """Read a base URL; UsageError if it is none."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--base-url {base_url!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--base-url must look like http://HOST:PORT/v1, not {base_url!r}")
    if parts.username or parts.password:
        raise UsageError("--base-url must not hold a user or password; give the key with --api-key")
    path = parts.path.rstrip("/")
    if not path.endswith("/v1") or parts.query or parts.fragment:
        raise UsageError(f"--base-url must end in /v1, as SDKs are given it; not {base_url!r}")
    is_secure = parts.scheme == "https"
    return Origin(
        base_url.rstrip("/"), is_secure, parts.hostname, port or (443 if is_secure else 80),
        path.removesuffix("/v1"), verifies_tls,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What the user said."""

    origin: Origin
    api_key: str | None = None
    forbidden_key: str | None = None
    limited_key: str | None = None
    admin_key: str | None = None
    lora_path: str | None = None  # an adapter of the chat model, on the engines' machines
    named: Mapping[Need, str] = field(default_factory=lambda: MappingProxyType({}))  # models by what they shall serve
    context_length: int | None = None  # of the chat model
    seconds: float = 30.0  # for a case
    streams: int = 200
    body_limit_mib: int = 64  # more than the deployment takes

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no output may show."""
        return tuple(key for key in (self.api_key, self.forbidden_key, self.limited_key, self.admin_key) if key)


@dataclass(frozen=True, slots=True)
class Card:
    """A listed model."""

    id: str
    parent: str | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the first questions found out."""

    wants_key: bool
    cards: tuple[Card, ...]
    models: Mapping[Need, str]  # the model to use for each kind
    serves: Mapping[str, frozenset[Need]]  # by model that was tried
    contexts: Mapping[str, int]  # by model, where known
    apis: frozenset[Need] = frozenset()  # what needs no model: files, uploads, batches

    def lacks(self, need: Need, target: Target) -> str:
        """Why a case with this need cannot be asked; empty if it can."""
        if need is Need.KEY:
            return "" if self.wants_key else "the deployment requires no API key"
        if need is Need.FORBIDDEN_KEY:
            return "" if target.forbidden_key else "no key that may not use the model was given (--forbidden-key)"
        if need is Need.LIMITED_KEY:
            return "" if target.limited_key else "no key with a limit of requests was given (--limited-key)"
        if need is Need.ADMIN:
            return "" if target.admin_key else "no administrator's key was given (--admin-key)"
        if need is Need.ADAPTER:
            return "" if target.lora_path else "no path of an adapter was given (--lora-path)"
        if need is Need.CONTEXT:
            return "" if self.contexts else "the models list names no max_model_len; give --context-length"
        if need is Need.RESPONSES:
            return "" if need in self.models else "the chat model is not served by the Responses API"
        if need in API_PATHS:
            return "" if need in self.apis else f"the deployment has no {need} ({API_PATHS[need]})"
        return "" if need in self.models else f"no {need} was found or given ({OPTION[need]})"


OPTION: Mapping[Need, str] = MappingProxyType(
    {
        Need.CHAT: "--model",
        Need.SECOND: "--second-model",
        Need.EMBEDDING: "--embedding-model",
        Need.RERANK: "--rerank-model",
        Need.TRANSCRIPTION: "--transcription-model",
        Need.LORA: "--lora-model",
    }
)
API_PATHS: Mapping[Need, str] = MappingProxyType(
    {Need.FILES: "/v1/files", Need.UPLOADS: "/v1/uploads", Need.BATCHES: "/v1/batches"}
)
