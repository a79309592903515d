"""Write the schemas beside this file: `python -m tests.manifests.vendor` (needs Go and its module proxy).

Each file holds, for one version of one project, the kinds that our manifests use, as JSON Schema without the prose.
What a schema does not name is refused, unlike in the API server's own, which drops it silently. Rules in CEL are left
out: `make test-kubernetes` has the real API server judge those.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

FOLDER: Final = Path(__file__).with_name("schemas")
MIN_SHARED: Final = 200  # characters; what is at least this long and stands twice is written once
_KEPT: Final = (
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "required",
)


class Loader(yaml.SafeLoader):
    """YAML where a plain `=` is text, as everywhere but in YAML 1.1."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:value": yaml.SafeLoader.construct_yaml_str,
    }


@dataclass(frozen=True, slots=True)
class Definitions:
    """Custom resource definitions in a folder of a Go module."""

    name: str
    module: str
    version: str
    folder: str
    kinds: tuple[str, ...]

    def schemas(self) -> Mapping[str, Any]:
        """By `apiVersion/kind`."""
        found = {}
        for path in sorted((fetched(self.module, self.version) / self.folder).glob("*.yaml")):
            for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader):
                if document and document["kind"] == "CustomResourceDefinition":
                    found.update(dict(_versions(document["spec"], self.kinds)))
        return found


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Kubernetes' own kinds, from its OpenAPI document."""

    name: str
    module: str
    version: str
    kinds: tuple[str, ...]

    def schemas(self) -> Mapping[str, Any]:
        """By `apiVersion/kind`."""
        document = json.loads((fetched(self.module, self.version) / "api/openapi-spec/swagger.json").read_bytes())
        definitions = document["definitions"]
        found = {}
        for definition in definitions.values():
            for one in definition.get("x-kubernetes-group-version-kind", ()):
                key = "/".join(filter(None, (one["group"], one["version"], one["kind"])))
                if key in self.kinds:
                    found[key] = compact(_inlined(definition, definitions))
        return found


EG_KINDS: Final = (
    "EnvoyProxy", "EnvoyExtensionPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy", "HTTPRouteFilter",
)  # fmt: skip
ROUTE_KINDS: Final = ("GatewayClass", "Gateway", "HTTPRoute", "ReferenceGrant", "BackendTLSPolicy")
_EG: Final = "github.com/envoyproxy/gateway"
SOURCES: Final = (
    # The oldest Envoy Gateway that the manifests are for, with the Gateway API of its go.mod; below, what they are
    # tried on.
    Definitions("envoy-gateway-oldest", _EG, "v1.7.0", "charts/gateway-helm/crds/generated", EG_KINDS),
    Definitions("gateway-api-oldest", "sigs.k8s.io/gateway-api", "v1.4.1", "config/crd/standard", ROUTE_KINDS),
    Definitions("envoy-gateway", _EG, "v1.9.1", "charts/gateway-helm/charts/crds/crds/generated", EG_KINDS),
    Definitions("gateway-api", "sigs.k8s.io/gateway-api", "v1.6.1", "config/crd/standard", ROUTE_KINDS),
    Definitions(
        "inference-extension", "sigs.k8s.io/gateway-api-inference-extension", "v1.5.0", "config/crd/bases",
        ("InferencePool",),
    ),
    Definitions(
        "prometheus-operator", "github.com/prometheus-operator/prometheus-operator", "v0.85.0",
        "example/prometheus-operator-crd", ("ServiceMonitor", "PrometheusRule"),
    ),
    BuiltIn(
        "kubernetes", "k8s.io/kubernetes", "v1.36.3",
        (
            "v1/Namespace", "v1/Service", "v1/ServiceAccount", "v1/ConfigMap", "v1/Secret", "v1/PersistentVolumeClaim",
            "apps/v1/Deployment", "batch/v1/Job",
            "autoscaling/v2/HorizontalPodAutoscaler", "policy/v1/PodDisruptionBudget",
            "networking.k8s.io/v1/NetworkPolicy",
            "rbac.authorization.k8s.io/v1/Role", "rbac.authorization.k8s.io/v1/RoleBinding",
            "rbac.authorization.k8s.io/v1/ClusterRole", "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
        ),
    ),
)  # fmt: skip


def fetched(module: str, version: str) -> Path:
    """Where Go keeps a module."""
    ran = subprocess.run(["go", "mod", "download", "-json", f"{module}@{version}"], capture_output=True, text=True)
    answer = json.loads(ran.stdout or "{}")
    if ran.returncode != 0:
        sys.exit(f"{module}@{version}: {answer.get('Error') or ran.stderr}")
    return Path(answer["Dir"])


def _versions(spec: Mapping[str, Any], kinds: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if spec["names"]["kind"] in kinds:
        for version in spec["versions"]:
            schema = compact(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schema["required"] = ["apiVersion", "kind", "metadata"]
            yield f"{spec['group']}/{version['name']}/{spec['names']['kind']}", schema


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """References replaced by what they point to; a kind that holds itself would not end, and none of ours does."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].removeprefix("#/definitions/")], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What can be checked without an API server, and nothing beside it allowed."""
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    kept = {key: schema[key] for key in _KEPT if key in schema}
    if "items" in schema:
        kept["items"] = compact(schema["items"])
    properties = schema.get("properties")
    if properties:
        kept["properties"] = {name: compact(one) for name, one in properties.items()}
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        kept["additionalProperties"] = compact(more)
    elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept


def _with_parts(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A schema with each schema that stands directly in it changed."""
    changed = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            changed[key] = change(schema[key])
    if "properties" in schema:
        changed["properties"] = {name: change(one) for name, one in schema["properties"].items()}
    return changed


def shared(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The same with parts that stand several times written once: a fifth of the size."""
    counted: Counter[str] = Counter()

    def count(schema: Any) -> Any:
        text = json.dumps(schema, sort_keys=True)
        counted[text] += 1
        return schema if counted[text] > 1 else _with_parts(schema, count)

    for schema in schemas.values():
        count(schema)
    again = sorted(text for text, times in counted.items() if times > 1 and len(text) >= MIN_SHARED)
    names = {text: f"d{number}" for number, text in enumerate(again)}

    def pointed(schema: Any) -> Any:
        name = names.get(json.dumps(schema, sort_keys=True))
        return {"$ref": f"#/$defs/{name}"} if name else _with_parts(schema, pointed)

    return {
        "kinds": {key: _with_parts(schema, pointed) for key, schema in schemas.items()},
        "$defs": {name: _with_parts(json.loads(text), pointed) for text, name in names.items()},
    }


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for source in SOURCES:
        content = {"source": f"{source.module}@{source.version}", **shared(source.schemas())}
        path = FOLDER / f"{source.name}.json"
        path.write_text(json.dumps(content, indent=0, sort_keys=True).replace("\n", "") + "\n", encoding="utf-8")
        print(f"{path.name}: {len(content['kinds'])} kinds, {path.stat().st_size // 1024} KiB")  # noqa: T201


if __name__ == "__main__":
    main()
