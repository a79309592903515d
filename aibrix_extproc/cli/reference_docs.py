"""The texts of the reference about every served operation, by id."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_doc_rows import OPERATION_DOCS
from aibrix_extproc.core.openai.reference.operation_docs import OperationDoc
from aibrix_extproc.core.operations.reference import ENGINE_DOCS
from aibrix_extproc.core.operations.reference_runs import RUN_DOCS

DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({**OPERATION_DOCS, **ENGINE_DOCS, **RUN_DOCS})
