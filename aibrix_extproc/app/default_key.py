"""The key for engines that have none of their own."""

from dataclasses import replace

from pydantic import SecretStr

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.reduce import Changed, Listed, SourceChange


def with_default_key(change: SourceChange, secret: SecretStr | None) -> SourceChange:
    """Give the key to engines of a change that have none."""
    key = secret.get_secret_value() if secret is not None else None

    def keyed(endpoint: Endpoint) -> Endpoint:
        return endpoint if key is None or endpoint.api_key is not None else replace(endpoint, api_key=key)

    match change:
        case Listed(source, endpoints):
            return Listed(source, tuple(keyed(one) for one in endpoints))
        case Changed(source, endpoint):
            return Changed(source, keyed(endpoint))
        case _:
            return change
