"""The part of docs/configuration.md about the fleet file: every field that its parser takes, and an example."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.adapters.fleetfile.parse import MAX_ENDPOINTS, MAX_MODELS
from aibrix_extproc.cli.reference_markdown import code, table
from aibrix_extproc.core.fleet.kubernetes.podspec import CONFIG
from aibrix_extproc.core.openai.contract.headers import EXTERNAL_FILTER

EXAMPLE: Final = """
endpoints:
- address: 10.0.0.5:8000                  # all that is needed: its models are what the engine lists
- address: http://engine-2.example.com:8000
  name: engine-2
  labels: {tier: fast}
  api_key_file: engine-2.key              # beside this file
- address: "[fd00::7]:8000"
  engine: sglang
  models:                                 # of what the engine lists, only these
  - Qwen/Qwen3-8B
  - {id: sql-lora, parent: Qwen/Qwen3-8B}
  annotations:
    model.aibrix.ai/config: '{"profiles": {"default": {"routingStrategy": "random"}}}'
"""

# field of an endpoint -> meaning, default
FIELDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "address": ("`IP:PORT`, `[IPv6]:PORT` or `HOST:PORT`, also with `http://` before it; a name is looked up", ""),
        "name": ("for people: logs and `/fleet`", "the host name, if it is one"),
        "engine": ("as the label `model.aibrix.ai/engine` of a pod has it", "`vllm`"),
        "models": (
            "what may be served: names, or `{id, parent, max_model_len}` for engines without a list. Of a list only "
            "these and the adapters on them are served; a name that the engine refuses is a warning at `/fleet`",
            "all that the engine lists",
        ),
        "role": (
            "`prefill`, `decode` or `both`: which half of requests the engine computes",
            "what the labels `llm-d.ai/role` or `role-name` say, else `both`",
        ),
        "role_set": (
            "engines of one set take each other's KV cache over",
            "the label `roleset-name`, else the set without a name",
        ),
        "labels": (f"text by name, for {code(EXTERNAL_FILTER)}", "none"),
        "annotations": (f"text by name; {code(CONFIG)} is read", "none"),
        "api_key": ("the key that the engine wants", "`fleet.engine_api_key`"),
        "api_key_file": ("a file with that key, seen from this file's folder; followed when it changes", "none"),
    }
)


def fleet_file_section() -> str:
    """The section."""
    rows = ((code(name), meaning, default) for name, (meaning, default) in FIELDS.items())
    return f"""## The fleet file

Engines that run anywhere: {code("--fleet FILE")} of `serve`, `picker` and `local`. An edit counts within a second, and
a broken one (a field that does not exist, an address that is given twice) changes nothing: `/readyz` and the log say
which line is wrong. Up to {MAX_ENDPOINTS} endpoints with {MAX_MODELS} models each.

```yaml
{EXAMPLE.strip()}
```

{table(("field", "meaning", "default"), rows)}"""
