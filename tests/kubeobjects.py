"""Kubernetes objects as JSON trees, with what a real API server puts in, managedFields too."""

from typing import Any

Tree = dict[str, Any]

MODEL_LABEL = "model.aibrix.ai/name"
CREATED = "2026-01-01T00:00:00Z"


def metadata(name: str, namespace: str = "llm", uid: str = "", **more: Any) -> Tree:
    return {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{name}",
        "creationTimestamp": CREATED,
        "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:podIP": {}}}}],
        **more,
    }


def a_pod(
    name: str = "vllm-0",
    ip: str | None = "10.0.0.1",
    *,
    ready: bool | None = True,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    phase: str = "Running",
    **meta: Any,
) -> Tree:
    """A ready pod of `chat-m`; `labels` come on top, with a value of "" they are as given."""
    marks = {MODEL_LABEL: "chat-m"} if labels is None else labels
    status: Tree = {"phase": phase}
    if ip is not None:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    if ready is not None:
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": CREATED}
        status["conditions"] = [{"type": "PodScheduled", "status": "True"}, condition]
    container = {
        "name": "engine",
        "image": "vllm",
        "env": [{"name": key, "value": v} for key, v in (env or {}).items()],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, **meta) | {"labels": marks, "annotations": annotations or {}},
        "spec": {"containers": [container]},
        "status": status,
    }


def an_adapter(name: str, *pods: str, base: str | None = "chat-m", **meta: Any) -> Tree:
    return {
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": metadata(name, **meta),
        "spec": {"baseModel": base, "artifactURL": "s3://bucket/lora", "podSelector": {"matchLabels": {}}},
        "status": {"phase": "Running", "instances": list(pods)},
    }


def a_pool(name: str = "pool", *ports: int, selector: dict[str, str] | None = None, **meta: Any) -> Tree:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": metadata(name, **meta),
        "spec": {
            "selector": {"matchLabels": {"app": "vllm"} if selector is None else selector},
            "targetPorts": [{"number": port} for port in ports or (8000,)],
        },
    }


def a_slice(
    name: str,
    *addresses: str,
    ports: tuple[Tree, ...] = ({"port": 9000, "protocol": "TCP"},),
    labels: dict[str, str] | None = None,
    conditions: Tree | None = None,
    target: str | None = None,
    family: str = "IPv4",
) -> Tree:
    endpoint: Tree = {"conditions": {"ready": True} if conditions is None else conditions}
    if target:
        endpoint["targetRef"] = {"kind": target, "name": "x"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(name, labels={MODEL_LABEL: "chat-m"} if labels is None else labels),
        "addressType": family,
        "ports": list(ports) or None,
        "endpoints": [{"addresses": [address], **endpoint} for address in addresses] or None,
    }


def a_service(name: str, *ports: str, selector: dict[str, str] | None = None, **meta: Any) -> Tree:
    spec: Tree = {"ports": [{"name": port, "port": 8000 + number} for number, port in enumerate(ports)]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, **meta),
        "spec": spec | ({"selector": selector} if selector else {}),
    }
