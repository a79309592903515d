"""Which field of Envoy's messages stands for which phase of an exchange."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.exchange.outputs import Phase

# The oneof fields of ProcessingRequest; those of ProcessingResponse have the same names.
PHASES: Final[Mapping[str, Phase]] = {
    "request_headers": Phase.REQUEST_HEAD,
    "request_body": Phase.REQUEST_BODY,
    "request_trailers": Phase.REQUEST_TRAILERS,
    "response_headers": Phase.RESPONSE_HEAD,
    "response_body": Phase.RESPONSE_BODY,
    "response_trailers": Phase.RESPONSE_TRAILERS,
}
FIELDS: Final[Mapping[Phase, str]] = {phase: field for field, phase in PHASES.items()}
