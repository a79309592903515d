"""Operations that the gateway answers from what it knows of the fleet."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Local, ModelIn, Operation

ROWS: Final = (
    Operation(
        "list_models", "GET", "/v1/models",
        action=Action.LOCAL, local=Local.LIST_MODELS,
        note="from the fleet; created is stable",
    ),
    Operation(
        "retrieve_model", "GET", "/v1/models/{model...}",
        action=Action.LOCAL, local=Local.RETRIEVE_MODEL, model_in=ModelIn.PATH,
        errors=("model_not_found_retrieve",),
        note="the id may hold slashes, raw or %2F",
    ),
    Operation(
        "delete_model", "DELETE", "/v1/models/{model...}",
        action=Action.LOCAL, local=Local.DELETE_MODEL, model_in=ModelIn.PATH,
        errors=("model_not_found_retrieve", "model_delete_refused"),
        note="refused as OpenAI does",
    ),
)  # fmt: skip

# Not of the API: its path is a setting, and it takes no key.
GATEWAY_HEALTH: Final = Operation("gateway_health", "GET", "/healthz", action=Action.LOCAL, local=Local.HEALTH)
