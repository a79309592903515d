"""Operations about usage; the metadata service answers them."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role

ROWS: Final = (
    Operation("usage", "GET", "/v1/usage", action=Action.METADATA, is_free=True, note="the caller's own"),
    Operation(
        "organization_usage", "GET", "/v1/organization/usage/{kind}",
        action=Action.METADATA, role=Role.ADMIN,
        note="of all callers",
    ),
    Operation("organization_costs", "GET", "/v1/organization/costs", action=Action.METADATA, role=Role.ADMIN),
)  # fmt: skip
