"""Operations for those who operate the system; the metadata service answers them. Unknown URLs for everybody else."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role


def _admin(name: str, method: str, path: str, *errors: str) -> Operation:
    return Operation(name, method, path, action=Action.METADATA, role=Role.ADMIN, errors=errors)


ROWS: Final = (
    Operation(
        "list_audit", "GET", "/admin/v1/audit",
        action=Action.METADATA, role=Role.ADMIN,
    ),
    Operation("create_cordon", "POST", "/admin/v1/cordons", action=Action.METADATA, role=Role.OPERATOR),
    Operation("list_cordons", "GET", "/admin/v1/cordons", action=Action.METADATA, role=Role.OPERATOR),
    Operation(
        "retrieve_cordon", "GET", "/admin/v1/cordons/{cordon_id}",
        action=Action.METADATA, role=Role.OPERATOR,
        errors=("cordon_not_found",),
    ),
    Operation(
        "delete_cordon", "DELETE", "/admin/v1/cordons/{cordon_id}",
        action=Action.METADATA, role=Role.OPERATOR,
        errors=("cordon_not_found",),
    ),
    _admin("create_caller", "POST", "/admin/v1/callers", "exists_already"),
    _admin("list_callers", "GET", "/admin/v1/callers"),
    _admin("retrieve_caller", "GET", "/admin/v1/callers/{caller...}", "caller_not_found"),
    _admin("update_caller", "POST", "/admin/v1/callers/{caller...}", "caller_not_found", "changed_meanwhile"),
    _admin("delete_caller", "DELETE", "/admin/v1/callers/{caller...}", "caller_not_found", "caller_has_keys"),
    _admin("create_key", "POST", "/admin/v1/keys", "caller_not_found", "exists_already"),
    _admin("list_keys", "GET", "/admin/v1/keys"),
    _admin("retrieve_key", "GET", "/admin/v1/keys/{key_id}", "key_not_found"),
    _admin("update_key", "POST", "/admin/v1/keys/{key_id}", "key_not_found", "changed_meanwhile"),
    _admin("rotate_key", "POST", "/admin/v1/keys/{key_id}/rotate", "key_not_found", "changed_meanwhile"),
    _admin("revoke_key", "DELETE", "/admin/v1/keys/{key_id}", "key_not_found"),
    _admin("create_limit", "POST", "/admin/v1/limits", "exists_already"),
    _admin("list_limits", "GET", "/admin/v1/limits"),
    _admin("retrieve_limit", "GET", "/admin/v1/limits/{limit_id...}", "limit_not_found"),
    _admin("delete_limit", "DELETE", "/admin/v1/limits/{limit_id...}", "limit_not_found"),
)  # fmt: skip
