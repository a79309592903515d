"""Authenticates requests: finds the caller behind their credentials, and what it may do."""

from collections.abc import Callable
from typing import Protocol

from aibrix_extproc.app.credentials import Credentials
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange.asks import Admitted, Authenticate, Headers, Refused
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role
from aibrix_extproc.core.placing import Caller


class CallerLimits(Protocol):
    """What is known of a caller's limits without asking anybody."""

    def limits_of(self, caller: Caller) -> Callable[[bool], Headers] | None:
        """For a limited caller the headers of its answers, in Anthropic's form or OpenAI's."""
        ...

    def used_up(self, caller: Caller, operation: Operation) -> Problem | None:
        """The refusal, if the caller may make no request now, whatever its body says."""
        ...


class Authenticator:
    """Answers from the key ring of the moment. `credentials` are of a gateway that has a metadata service."""

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        wall_clock: Callable[[], float],
        credentials: Credentials | None = None,
        limits: CallerLimits | None = None,
    ) -> None:
        self._keys = keys
        self._wall_clock = wall_clock
        self._credentials = credentials
        self._limits = limits

    def authenticate(self, ask: Authenticate) -> Admitted | Refused:
        """The caller, or the refusal."""
        caller, batch_id = self._caller(ask)
        if isinstance(caller, Problem):
            return Refused(caller)
        operation = ask.operation
        # What is an unknown URL for everybody stays one: a 403 would say that it exists.
        if operation is None or operation.action in (Action.ADMIN, Action.REFUSE) or not caller.may_see(operation):
            return Admitted(caller, limits=self._limits_of(caller))
        if operation.role is Role.USER and not caller.may_use_operation(operation.id):
            what = f"{operation.method} {operation.path}"
            return Refused(Problem("permission_denied", {"what": what}))
        if operation.action is Action.METADATA and self._credentials is not None:
            signed = self._credentials.vouch(caller, ask.request_id, operation)
            return Admitted(caller, signed, limits=self._limits_of(caller) if operation.role is Role.USER else None)
        limits = self._limits_of(caller)
        if limits is not None and self._limits is not None and operation.action is Action.ROUTE:
            used_up = self._limits.used_up(caller, operation)
            if used_up is not None:
                return Refused(used_up)
        return Admitted(caller, batch_id=batch_id, limits=limits)

    def _limits_of(self, caller: Caller) -> Callable[[bool], Headers] | None:
        return None if self._limits is None else self._limits.limits_of(caller)

    def _caller(self, ask: Authenticate) -> tuple[Caller | Problem, str]:
        """The caller, and the id of the batch if the request is a line of one."""
        keys = self._keys()
        if ask.on_behalf is None or ask.operation is None:
            return keys.authenticate(ask.authorization, ask.x_api_key, self._wall_clock(), api_key=ask.api_key), ""
        signed = None if self._credentials is None else self._credentials.vouched(ask.on_behalf, ask.operation.id)
        if signed is None:
            return Problem("invalid_api_key", {"key": "***"}), ""
        return keys.named(signed.caller), signed.batch_id
