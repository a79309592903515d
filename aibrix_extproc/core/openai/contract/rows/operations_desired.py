"""Desired adapters and policies of models, for administrators and for operators whose keys list these operations."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role


def _row(name: str, method: str, path: str, *errors: str) -> Operation:
    return Operation(name, method, path, action=Action.METADATA, role=Role.OPERATOR, errors=errors)


ROWS: Final = (
    _row("list_adapters", "GET", "/admin/v1/adapters"),
    _row("get_adapter", "GET", "/admin/v1/adapters/{adapter...}", "adapter_not_found"),
    _row(
        "put_adapter", "PUT", "/admin/v1/adapters/{adapter...}",
        "unknown_field", "adapter_exists", "adapter_name_taken", "adapter_declared_elsewhere",
    ),
    _row(
        "delete_adapter", "DELETE", "/admin/v1/adapters/{adapter...}",
        "adapter_not_found", "adapter_declared_elsewhere",
    ),
    _row("list_policies", "GET", "/admin/v1/policies"),
    _row("get_policy", "GET", "/admin/v1/policies/{model...}", "policy_not_found"),
    _row("put_policy", "PUT", "/admin/v1/policies/{model...}", "unknown_field"),
    _row("delete_policy", "DELETE", "/admin/v1/policies/{model...}", "policy_not_found"),
)  # fmt: skip
