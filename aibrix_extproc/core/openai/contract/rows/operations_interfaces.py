"""What the gateway says of its own interface: to each caller what its key may do, to administrators its version."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Local, Operation, Role

ROWS: Final = (
    Operation(
        "list_interfaces", "GET", "/v1/interfaces",
        action=Action.LOCAL, local=Local.LIST_INTERFACES,
        note="what this key may do",
    ),
    Operation(
        "retrieve_interface", "GET", "/v1/interfaces/{interface_id}",
        action=Action.LOCAL, local=Local.RETRIEVE_INTERFACE,
        errors=("interface_not_found",),
    ),
    Operation(
        "retrieve_openapi", "GET", "/v1/openapi.json",
        action=Action.LOCAL, local=Local.OPENAPI,
        note="what this key may do",
    ),
    Operation("gateway_version", "GET", "/admin/v1/version", action=Action.LOCAL, local=Local.VERSION, role=Role.ADMIN),
)  # fmt: skip
