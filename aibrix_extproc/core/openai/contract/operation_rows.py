"""The table of operations: the rows of `rows/`, joined, and what is read from their columns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.operations import Operation, Router
from aibrix_extproc.core.openai.contract.rows import (
    operations_control,
    operations_desired,
    operations_engines,
    operations_inference,
    operations_interfaces,
    operations_models,
    operations_runs,
    operations_storage,
    operations_unserved,
    operations_usage,
)

GATEWAY_HEALTH: Final = operations_models.GATEWAY_HEALTH
OPERATIONS: Final[tuple[Operation, ...]] = (
    *operations_inference.ROWS,
    *operations_models.ROWS,
    *operations_interfaces.ROWS,
    *operations_inference.RESPONSE_ROWS,
    *operations_storage.ROWS,
    *operations_control.ROWS,
    *operations_runs.ROWS,
    *operations_usage.ROWS,
    *operations_engines.ROWS,
    *operations_desired.ROWS,
    *operations_unserved.OPENAI_ROWS,
    *operations_unserved.VLLM_ROWS,
    *operations_unserved.ADMINISTRATION_ROWS,
)
ROUTER: Final = Router(OPERATIONS)

# By path, what may be asked in a batch.
BATCH_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {row.path: row for row in OPERATIONS if row.batch_name}
)
# All paths of Anthropic's API begin with it.
ANTHROPIC_PATH: Final = min((row.path for row in OPERATIONS if row.anthropic), key=len)

# Below them, bodies may be larger than what the processor takes.
UPLOAD_PATHS: Final = ("/v1/files", "/v1/uploads")


def is_anthropic(path: str) -> bool:
    """Whether a path is Anthropic's, even one that no row has: its SDK reads errors in one shape only."""
    return path == ANTHROPIC_PATH or path.startswith(f"{ANTHROPIC_PATH}/")
