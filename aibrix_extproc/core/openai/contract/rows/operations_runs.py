"""Operations over engines, as runs that outlive the request, and the engines themselves."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role

ROWS: Final = (
    Operation(
        "create_run", "POST", "/admin/v1/operations", action=Action.METADATA, role=Role.OPERATOR,
        errors=(
            "model_not_found", "endpoint_not_found", "no_endpoint_matches", "last_engine",
            "too_many_runs", "idempotency_key_reused", "no_fleet",
        ),
    ),
    Operation("list_runs", "GET", "/admin/v1/operations", action=Action.METADATA, role=Role.OPERATOR),
    Operation(
        "retrieve_run", "GET", "/admin/v1/operations/{run_id}", action=Action.METADATA, role=Role.OPERATOR,
        errors=("run_not_found",),
    ),
    Operation(
        "run_events", "GET", "/admin/v1/operations/{run_id}/events", action=Action.METADATA, role=Role.OPERATOR,
        errors=("run_not_found",),
    ),
    Operation(
        "cancel_run", "POST", "/admin/v1/operations/{run_id}/cancel", action=Action.METADATA, role=Role.OPERATOR,
        errors=("run_not_found",),
    ),
    Operation(
        "list_engines", "GET", "/admin/v1/engines", action=Action.METADATA, role=Role.OPERATOR, errors=("no_fleet",)
    ),
)  # fmt: skip
