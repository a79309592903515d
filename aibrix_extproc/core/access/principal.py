"""The caller of an operation of operators, with its rights, which are checked in one place."""

from fnmatch import fnmatchcase
from typing import Final

import msgspec

from aibrix_extproc.core.openai.contract.operations import Operation, Role
from aibrix_extproc.core.placing import Caller

MAX_GRANT_CHARACTERS: Final = 4_000  # of an operator's operations, models and adapters together: they fit in a header


class Grants(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The rights of an administrator or operator, as they travel from the gateway to the metadata service."""

    role: Role
    key_id: str = ""
    operations: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None  # shell-style patterns; None: all
    adapters: tuple[str, ...] | None = None


NO_GRANTS: Final = Grants(Role.USER)


class Principal(msgspec.Struct, frozen=True, gc=False):
    """A caller with its rights over operations that not everybody has."""

    name: str
    grants: Grants = NO_GRANTS

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.grants.role is Role.ADMIN

    def may_see(self, operation: Operation) -> bool:
        """Whether the row exists as far as this caller is concerned."""
        if operation.role is Role.USER or self.is_admin:
            return True
        return operation.role is Role.OPERATOR and self.may(operation.id)

    def may(self, operation: str, *, model: str | None = None, adapter: str | None = None) -> bool:
        """Whether it may use an operation of operators on a model and an adapter (None: it is about none)."""
        if self.grants.role is Role.ADMIN:
            return True
        return (
            self.grants.role is Role.OPERATOR
            and operation in self.grants.operations
            and _matches(model, self.grants.models)
            and _matches(adapter, self.grants.adapters)
        )


def principal_of(caller: Caller) -> Principal:
    """The rights of a caller that the key ring knows."""
    if caller.role is not Role.OPERATOR:
        return Principal(caller.name, Grants(caller.role, caller.key_id))
    operations = tuple(sorted(caller.operations or ()))
    return Principal(caller.name, Grants(caller.role, caller.key_id, operations, caller.models, caller.adapters))


def grant_characters(caller: Caller) -> int:
    """The length of all lists of an operator together."""
    texts = (*(caller.operations or ()), *(caller.models or ()), *(caller.adapters or ()))
    return sum(len(text.encode()) + 3 for text in texts)


def _matches(name: str | None, patterns: tuple[str, ...] | None) -> bool:
    return name is None or patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
