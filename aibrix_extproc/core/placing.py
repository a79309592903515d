"""Values that placement and exchange share: the caller, the query, the routing headers, the placement.

Plain values, no request types of any server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.contract.operations import Operation, Role
from aibrix_extproc.core.openai.wire.prefix import PrefixChain

RETRIES: Final = 3  # what the shipped Envoy configurations allow
ATTEMPTS: Final = RETRIES + 1


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity with its permissions; `name` is what logs and metrics may show.

    `models` are shell-style patterns and `operations` ids of the operations table; None means all of them.
    """

    name: str
    models: tuple[str, ...] | None = None
    operations: frozenset[str] | None = None
    role: Role = Role.USER  # administrators and operators may use rows that are unknown URLs for everybody else
    engine_controls: bool = False  # may send controls of engines: the rows of CONTROLS
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    adapters: tuple[str, ...] | None = None  # patterns: of which LoRA adapters an operator may change something
    key_id: str = field(default="", compare=False)  # of the key that was presented: with each key it is the same caller

    def may_use_model(self, model: str) -> bool:
        """Whether the model exists as far as this caller is concerned."""
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)

    def may_use_operation(self, operation: str) -> bool:
        """Whether the caller may call this operation at all."""
        return self.operations is None or operation in self.operations

    def may_see(self, operation: Operation) -> bool:
        """Whether the row exists as far as this caller is concerned."""
        if operation.role is Role.USER or self.role is Role.ADMIN:
            return True
        return operation.role is Role.OPERATOR is self.role and operation.id in (self.operations or ())


ANYONE: Final = Caller("anyone")  # when the gateway asks for no keys


class RouteQuery(msgspec.Struct, frozen=True, gc=False):
    """The facts of one request that matter for picking an endpoint."""

    model: str
    cache_salt: str = ""
    body_bytes: int = 0
    session: str = ""  # what requests of one conversation have in common; for strategies that keep sessions
    prefix: PrefixChain | None = None  # of the prompt; None if nothing needs it, or the operation has no prompt
    max_tokens: int | None = None  # of the answer; None if nothing needs it, or the request does not say
    caller: str = ANYONE.name

    @property
    def prompt_bytes(self) -> int:
        """Bytes of the prompt; of the whole body if the prompt was not read."""
        return self.body_bytes if self.prefix is None else self.prefix.size


class RoutingHeaders(msgspec.Struct, frozen=True, gc=False):
    """AIBrix's headers about placement, as the client sent them; None for those it did not send."""

    strategy: str | None = None
    external_filter: str | None = None
    profile: str | None = None
    session: str | None = None
    prompt_tokens: int | None = None  # estimated, and only for the profile `auto`
    max_tokens: int | None = None  # the same


class Placement(msgspec.Struct, frozen=True, gc=False):
    """The ranked endpoints for one request, best first, and who ranked them."""

    strategy: str
    model: str
    candidates: tuple[Endpoint, ...]
    degraded: tuple[tuple[str, str], ...] = ()  # strategy and reason: signals that were missing for this ranking

    @property
    def first(self) -> Endpoint:
        """The endpoint that Envoy tries first; its load is counted."""
        return self.candidates[0]

    def destination(self, entries: int = ATTEMPTS) -> str:
        """The addresses that Envoy tries, one for each attempt: repeated if there are fewer candidates than attempts.

        After the last one Envoy would fall back to any endpoint of its cluster, also one of another model.
        """
        addresses = [endpoint.address for endpoint in self.candidates]
        rounds = -(-entries // len(addresses))
        return ",".join((addresses * rounds)[:entries])


Load = Mapping[str, int]  # in-flight exchanges by endpoint identity; absent means none
