"""What the reference says of operations for those who operate the system."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.core.openai.reference.operation_docs import AFTER, JSON, PAGE, Field, OperationDoc

_OURS: Final = ("OpenAI has no such operation",)
_VLLM: Final = ("vLLM has no such route",)

_OPERATES: Final = "for administrators, and operators whose `operations` name it and whose `models` are not limited"
_CORDON: Final = (
    Field("id", "string", "`cordon_` and 24 characters", True),
    Field("object", "string", "what this is", True, values=("cordon",)),
    Field("endpoint", "string|null", "the endpoint", True),
    Field("pod", "string|null", "the pod", True),
    Field("selector", "string|null", "the selector", True),
    Field("reason", "string", "for people", True),
    Field("operation_run", "string|null", "the run that it belongs to; null: it was made by hand", True),
    Field("by", "string", "the caller who made it", True),
    Field("created_at", "integer", "seconds since the epoch", True),
    Field("expires_at", "integer|null", "seconds since the epoch; null: it stays until it is deleted", True),
    Field("version", "integer", "of the control state; gateways report which one they have applied", True),
)

_LIMIT: Final = Field("limit", "integer", "objects in a page, 1 to 1000", default="100")
_ADMINS: Final = "for administrators; every gateway that follows the metadata service knows a change within a second"
_CALLER_FIELDS: Final = (
    Field("models", "array|null", "patterns of models that it may use; null: all"),
    Field("operations", "array|null", "ids of operations that it may use; null: all; an operator must have a list"),
    Field("role", "string", "what it is", default='"user"', values=("user", "operator", "admin")),
    Field("adapters", "array|null", "patterns of LoRA adapters that an operator may change; null: all"),
    Field("engine_controls", "boolean", "whether it may steer engines", default="false"),
    Field("labels", "object", "up to 32 names and values for your own use"),
    Field("disabled", "boolean", "whether all of its keys are refused", default="false"),
    Field("note", "string", "for people"),
)
_CALLER: Final = (
    Field("id", "string", "its name", True),
    Field("object", "string", "what this is", True, values=("caller",)),
    Field("name", "string", "its name", True),
    *(replace(one, required=True, default="") for one in _CALLER_FIELDS),
    Field("created_at", "integer", "seconds since the epoch", True),
    Field("by", "string", "the caller who made it", True),
    Field("version", "integer", "of the control state", True),
)
_END: Final = (
    Field("expires_in", "number|null", "seconds until it ends; this or `expires_at`"),
    Field("expires_at", "number|null", "when it ends, in seconds since the epoch; without both: never"),
)
_KEY_FIELDS: Final = (
    *_END,
    Field("note", "string", "for people"),
    Field("labels", "object", "up to 32 names and values for your own use"),
    Field("disabled", "boolean", "whether it is refused", default="false"),
)
_KEY: Final = (
    Field("id", "string", "`k_` and the beginning of its hash", True),
    Field("object", "string", "what this is", True, values=("key",)),
    Field("caller", "string", "whose key it is", True),
    Field("hash", "string", "`sha256:` and the SHA-256 of the key", True),
    Field("hint", "string", "the last characters of the key", True),
    Field("disabled", "boolean", "whether it is refused", True),
    Field("expires_at", "integer|null", "seconds since the epoch; null: never", True),
    Field("note", "string", "for people", True),
    Field("labels", "object", "names and values", True),
    Field("replaces", "string|null", "the key before it", True),
    Field("created_at", "integer", "seconds since the epoch", True),
    Field("by", "string", "the caller who made it", True),
    Field("version", "integer", "of the control state", True),
    Field("key", "string", "the key itself, in the answer to its creation or rotation only"),
)
_DELETED: Final = (
    Field("id", "string", "what is gone", True),
    Field("object", "string", "what it was", True),
    Field("deleted", "boolean", "always true", True),
)
_LIMIT_RECORD: Final = (
    Field("id", "string", "its id; left out: made of the names that it has"),
    Field("kind", "string", "what it is", default='"limit"', values=("limit", "price")),
    Field("caller", "string|null", "a caller, or `*` for each one by itself"),
    Field("key", "string|null", "a key's id, or `*`"),
    Field("model", "string|null", "a model, or `*`; of a price a pattern"),
    Field("limits", "object", "names of limits with what is allowed; null: no limit"),
    Field("soft_limits", "object", "the same, and exceeding one only warns"),
    Field("caller_share", "number|null", "the part of them that one caller may use, above 0 and below 1"),
    Field("prices", "object", "of a price: what tokens, minutes and requests cost"),
    Field("note", "string", "for people"),
)


def _doc(summary: str, sdk: str, answer: tuple[Field, ...], **more: Any) -> OperationDoc:
    return OperationDoc(summary, sdk, answer, openai=(*_OURS, _ADMINS), vllm=_VLLM, **more)


_URL: Final = "HOST/admin/v1"
_SUBJECT_DOCS: Final = {
    "create_caller": _doc(
        "Make a caller",
        f'client.post("{_URL}/callers", body={{"name": "team-a"}}, cast_to=object)',
        _CALLER,
        request=(Field("name", "string", "as in a key file", True), *_CALLER_FIELDS),
        request_media=JSON,
    ),
    "list_callers": _doc(
        "List callers by their names", f'client.get("{_URL}/callers", cast_to=object)', PAGE, query=(_LIMIT, AFTER)
    ),
    "retrieve_caller": _doc("Describe a caller", f'client.get("{_URL}/callers/team-a", cast_to=object)', _CALLER),
    "update_caller": _doc(
        "Change a caller",
        f'client.post("{_URL}/callers/team-a", body={{"disabled": True}}, cast_to=object)',
        _CALLER,
        request=_CALLER_FIELDS,
        request_media=JSON,
    ),
    "delete_caller": _doc(
        "Remove a caller that has no keys", f'client.delete("{_URL}/callers/team-a", cast_to=object)', _DELETED
    ),
    "create_key": _doc(
        "Make a key, and show it once",
        f'client.post("{_URL}/keys", body={{"caller": "team-a"}}, cast_to=object)',
        _KEY,
        request=(
            Field("caller", "string", "whose key it is to be", True),
            Field("hash", "string|null", "`sha256:...` of a key that exists elsewhere; left out: a new key is made"),
            *_KEY_FIELDS,
        ),
        request_media=JSON,
    ),
    "list_keys": _doc(
        "List keys by their ids",
        f'client.get("{_URL}/keys", cast_to=object)',
        PAGE,
        query=(_LIMIT, AFTER, Field("caller", "string", "keys of this caller only")),
    ),
    "retrieve_key": _doc("Describe a key", f'client.get("{_URL}/keys/k_ID", cast_to=object)', _KEY),
    "update_key": _doc(
        "Change, disable or end a key",
        f'client.post("{_URL}/keys/k_ID", body={{"disabled": True}}, cast_to=object)',
        _KEY,
        request=_KEY_FIELDS,
        request_media=JSON,
    ),
    "rotate_key": _doc(
        "Make a key that replaces another, with an overlap",
        f'client.post("{_URL}/keys/k_ID/rotate", body={{"overlap_seconds": 3600}}, cast_to=object)',
        (*_KEY, Field("replaced_expires_at", "integer", "when the old key ends", True)),
        request=(
            Field("overlap_seconds", "number", "how long both are good", default="86400"),
            Field("expires_in", "number|null", "seconds until the new one ends; left out: never"),
        ),
        request_media=JSON,
    ),
    "revoke_key": _doc("Revoke a key", f'client.delete("{_URL}/keys/k_ID", cast_to=object)', _DELETED),
    "create_limit": _doc(
        "Set a limit or a price, over the one with its id; with `If-None-Match: *` only a new one",
        f'client.post("{_URL}/limits", body={{"caller": "a", "limits": {{"requests_per_minute": 9}}}}, cast_to=object)',
        _LIMIT_RECORD,
        request=_LIMIT_RECORD,
        request_media=JSON,
    ),
    "list_limits": _doc(
        "List limits and prices", f'client.get("{_URL}/limits", cast_to=object)', PAGE, query=(_LIMIT, AFTER)
    ),
    "retrieve_limit": _doc(
        "Describe a limit or a price", f'client.get("{_URL}/limits/caller=a", cast_to=object)', _LIMIT_RECORD
    ),
    "delete_limit": _doc(
        "Remove a limit or a price", f'client.delete("{_URL}/limits/caller=a", cast_to=object)', _DELETED
    ),
}

CONTROL_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "create_cordon": OperationDoc(
        summary="Cordon endpoints: no new requests, running ones end",
        sdk='client.post("HOST/admin/v1/cordons", body={"endpoint": "10.0.0.7:8000", "reason": "x"}, cast_to=object)',
        request=(
            Field("endpoint", "string", "an endpoint by its address or identity; or `pod`, or `selector`"),
            Field("pod", "string", "all endpoints of a pod, as NAME or NAMESPACE/NAME"),
            Field("selector", "string", "all endpoints whose labels match, also later ones; as `kubectl -l` takes it"),
            Field("reason", "string", "for people, up to 256 characters"),
            Field("expires_in", "number|null", "seconds until it ends by itself, up to 30 days; left out: never"),
        ),
        request_media=JSON,
        answer=_CORDON,
        openai=(*_OURS, _OPERATES, "every gateway applies it within a second; `/fleet` shows it"),
        vllm=_VLLM,
        limits=("1,000 cordons",),
    ),
    "list_cordons": OperationDoc(
        summary="List cordons", sdk='client.get("HOST/admin/v1/cordons", cast_to=object)',
        query=(Field("limit", "integer", "objects in a page, 1 to 1000", default="100"), AFTER),
        answer=PAGE, openai=(*_OURS, _OPERATES), vllm=_VLLM,
    ),
    "retrieve_cordon": OperationDoc(
        summary="Describe a cordon",
        sdk='client.get("HOST/admin/v1/cordons/cordon_ID", cast_to=object)',
        answer=_CORDON, openai=(*_OURS, _OPERATES), vllm=_VLLM,
    ),
    "delete_cordon": OperationDoc(
        summary="End a cordon", sdk='client.delete("HOST/admin/v1/cordons/cordon_ID", cast_to=object)',
        answer=(
            Field("id", "string", "the cordon", True),
            Field("object", "string", "what this was", True, values=("cordon",)),
            Field("deleted", "boolean", "always true", True),
        ),
        openai=(*_OURS, _OPERATES), vllm=_VLLM,
    ),
    **_SUBJECT_DOCS,
    "list_audit": OperationDoc(
        summary="List what administrators and operators have changed, newest first",
        sdk='client.get("HOST/admin/v1/audit", cast_to=object)',
        query=(
            Field("limit", "integer", "objects in a page, 1 to 1000", default="100"),
            AFTER,
            Field("caller", "string", "entries of this caller only"),
            Field("operation", "string", "entries of this operation only"),
        ),
        answer=PAGE,
        openai=(
            *_OURS,
            "an entry has `at`, `caller`, `key_id`, `operation`, `target`, `request_id` and `result`: `ok`, the key of"
            " an error, or `started` while it runs, and for good if its process died",
        ),
        vllm=_VLLM,
    ),
})  # fmt: skip
