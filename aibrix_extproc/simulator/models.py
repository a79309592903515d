"""Which model names the engine serves: the base model's names and its LoRA adapters."""

from dataclasses import dataclass
from uuid import uuid4

from aibrix_extproc.simulator.errors import EngineError, not_found
from aibrix_extproc.simulator.options import LoraModule, SimulatorOptions


@dataclass(frozen=True, slots=True)
class Model:
    """What a request's `model` turned out to be."""

    name: str
    """Echoed in the response."""
    adapter: str = ""
    """The LoRA adapter's name, or empty for the base model."""


class ServedModels:
    """The names of one engine; adapters come and go at run time."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._adapters: dict[str, str] = {lora.name: lora.path for lora in options.loras}

    @property
    def adapters(self) -> tuple[LoraModule, ...]:
        """What is loaded."""
        return tuple(LoraModule(name, path) for name, path in self._adapters.items())

    def resolve(self, name: str | None, pooling: bool = False) -> Model:
        """The model of a name; none at all means the base model, as in vLLM."""
        if not name or name in self._options.models:
            return Model(self._options.base_model)
        if name in self._adapters:
            return Model(name, name)
        message = f"The model `{name}` does not exist."
        if pooling:
            raise not_found(message)
        raise not_found(f"{message} Valid aliases: {', '.join(self._options.models)}.", "model")

    def load(self, name: str, path: str, in_place: bool) -> str:
        """Load an adapter; returns vLLM's success text."""
        if not name or not path:
            raise EngineError(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._options.models:
            raise EngineError(400, "InvalidUserInput", f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self._adapters and not in_place:
            raise EngineError(
                400,
                "InvalidUserInput",
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True.",
            )
        if path.startswith("/nope"):
            raise not_found(f"Loading lora {name} failed: No adapter found for {path}")
        self._adapters[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        """Unload an adapter; returns vLLM's success text."""
        if not name:
            raise EngineError(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self._adapters:
            raise not_found(f"The lora adapter '{name}' cannot be found.")
        del self._adapters[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def listing(self, now: int) -> dict[str, object]:
        """The body of GET /v1/models; `created` is the time of asking, as in vLLM."""
        base = self._options.base_model
        root = self._options.root or base
        cards = [_card(name, now, root, None, self._options.max_model_len) for name in self._options.models]
        cards += [_card(name, now, path, base, None) for name, path in self._adapters.items()]
        return {"object": "list", "data": cards}


def _card(name: str, now: int, root: str, parent: str | None, max_model_len: int | None) -> dict[str, object]:
    permission = {
        "id": f"modelperm-{uuid4().hex[:16]}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }
