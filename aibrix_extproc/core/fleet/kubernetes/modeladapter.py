"""AIBrix's ModelAdapters on a pod's endpoints: a LoRA adapter is a model of every pod that has loaded it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from aibrix_extproc.core.fleet.kubernetes.objects import ModelAdapter
from aibrix_extproc.core.fleet.kubernetes.podspec import ADAPTERS_ENABLED, MODEL, Translation, Unusable, model_name
from aibrix_extproc.core.fleet.model import Endpoint, ServedModel


def with_adapters(given: Translation, labels: Mapping[str, str], adapters: Iterable[ModelAdapter]) -> Translation:
    """The pod's endpoints with the adapters that name it."""
    served: list[ServedModel] = []
    warnings: list[str] = []
    for adapter in adapters:
        name = adapter.metadata.name
        if labels.get(ADAPTERS_ENABLED, "true") != "true":
            warnings.append(f"{adapter.subject} names the pod, but its label {ADAPTERS_ENABLED} is not true")
            continue
        try:
            served.append(ServedModel(model_name("name", name), parent=adapter.spec.base_model or labels.get(MODEL)))
        except Unusable as error:
            warnings.append(f"{adapter.subject} is left out: {error}")
    if not (served or warnings):
        return given
    served.sort(key=lambda model: model.id)
    return replace(
        given,
        endpoints=tuple(_with(endpoint, served) for endpoint in given.endpoints),
        warnings=given.warnings + tuple(warnings),
    )


def _with(endpoint: Endpoint, served: list[ServedModel]) -> Endpoint:
    """An endpoint without given models is left as it is: its engine lists adapters too."""
    return replace(endpoint, models=endpoint.models + tuple(served)) if endpoint.models else endpoint
