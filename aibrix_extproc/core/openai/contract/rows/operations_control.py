"""Operations for those who operate the system; the metadata service answers them. Unknown URLs for everybody else."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role

ROWS: Final = (
    Operation(
        "list_audit", "GET", "/admin/v1/audit",
        action=Action.METADATA, role=Role.ADMIN,
    ),
)  # fmt: skip
