"""docs/engine-operations.md: the table of vLLM's operational interface."""

from typing import Final

from aibrix_extproc.cli.reference_markdown import code, page, table
from aibrix_extproc.core.operations.table import ROWS, EngineOperation

_HEAD: Final = """
vLLM's operational interface through the gateway, for administrators and operators. [engines.md](engines.md) says how to
call it and what its answers mean; [the page for operators](api/operators.md) has the parameters.
"""
_REQUESTS: Final = """
What operations do to requests, as seen with vLLM 0.32.0 and 0.33.0. Those that only ask do nothing to requests.
"""
_NEEDS: Final = "What an engine needs for it, how long engines have, and by what one sees that it took effect."


def engine_operations_page() -> str:
    """The page."""
    does = ((code(row.path), row.running, row.fresh, "yes" if row.disturbing else "no") for row in ROWS if row.changes)
    needs = ((code(row.path), row.needs or "nothing", f"{row.seconds:g} s", _verified(row)) for row in ROWS)
    return page(
        "Engine operations",
        _HEAD,
        "## Effects\n\n" + _REQUESTS.strip(),
        table(("operation", "requests that run", "new requests", "drain before"), does),
        "## Needs\n\n" + _NEEDS,
        table(("operation", "flags and variables of vLLM", "time", "seen by"), needs),
    )


def _verified(row: EngineOperation) -> str:
    path = next((one.path for one in ROWS if one.id == row.verified_by), "/v1/models" if row.verified_by else "")
    return code(path) if path else "its answer"
