"""The first questions: is anybody there, does it want a key, which models does it list and what do they serve."""

import http.client
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Mismatch, Need
from aibrix_extproc.conformance.masking import Mask, bounded
from aibrix_extproc.conformance.target import API_PATHS, OPTION, Card, Deployment, Target, UsageError
from aibrix_extproc.conformance.wire import Answer

MOST_MODELS: Final = 16  # tried for what they serve
_NOTHING: Final = Deployment(
    wants_key=False, cards=(), models=MappingProxyType({}), serves=MappingProxyType({}), contexts=MappingProxyType({})
)
_SHOWN: Final = 200


def look(target: Target) -> Deployment:
    """What the deployment is; UsageError if no case could be asked."""
    listed = _ask(target, lambda bench: bench.send("GET", "/v1/models"))
    _check_key(target, listed)
    cards = _cards(listed)
    if not cards and not target.named:
        said = _brief(target, listed)
        raise UsageError(f"{target.origin.base_url}/models lists no models ({said}), and none was named with --model")
    without_key = _ask(target, lambda bench: bench.send("GET", "/v1/models", key=False))
    tried = list(dict.fromkeys([*target.named.values(), *(card.id for card in cards)]))[:MOST_MODELS]
    serves = {model: served(target, model) for model in tried}
    _check_named(target, cards, serves)
    models = _chosen(target, cards, serves)
    return Deployment(
        wants_key=_wants_key(listed, without_key),
        cards=cards,
        models=MappingProxyType(models),
        serves=MappingProxyType(serves),
        contexts=MappingProxyType(_contexts(target, cards, serves, models)),
        apis=frozenset(need for need in API_PATHS if _has_api(target, need)),
    )


def _has_api(target: Target, need: Need) -> bool:
    """Whether a route is there. Nothing is made: files and batches are listed, and an upload of nothing is refused."""
    path = API_PATHS[need]
    try:
        if need is Need.UPLOADS:
            return not is_missing(_ask(target, lambda bench: bench.post(path, {})))
        return not is_missing(_ask(target, lambda bench: bench.send("GET", f"{path}?limit=1")))
    except UsageError:
        return True  # it is there and fails: for its cases to judge


def _wants_key(listed: Answer, without_key: Answer) -> bool:
    """Whether the list is refused without a key, with whatever status."""
    if _is_success(listed):
        return not _is_success(without_key)
    return without_key.status in (401, 403)


def _is_success(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _ask(target: Target, question: Callable[[Bench], Answer]) -> Answer:
    bench = Bench(target, _NOTHING, target.seconds)
    url = target.origin.base_url
    try:
        return question(bench)
    except TimeoutError as error:
        raise UsageError(f"{url} does not answer within {target.seconds:g} s") from error
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or error
        raise UsageError(f"{url} cannot be reached over TLS: {why}") from error
    except OSError as error:
        raise UsageError(f"{url} cannot be reached: {error.strerror or error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise UsageError(f"{url} does not speak HTTP: {type(error).__name__}") from error
    finally:
        bench.close()


def _check_key(target: Target, listed: Answer) -> None:
    refused = listed.status in (401, 403)
    if not refused and not (target.api_key is None and not target.named and listed.status in (400, 422, 500)):
        return
    if target.api_key is None:
        raise UsageError(
            f"{target.origin.base_url} wants an API key; give it with --api-key ({_brief(target, listed)})"
        )
    raise UsageError(f"{target.origin.base_url} refuses the API key ({_brief(target, listed)})")


def _cards(listed: Answer) -> tuple[Card, ...]:
    try:
        document = listed.json() if listed.status == 200 else None
    except Mismatch:
        return ()
    data = document.get("data") if isinstance(document, dict) else None
    entries = data if isinstance(data, list) else []
    return tuple(_card(one) for one in entries if isinstance(one, dict) and isinstance(one.get("id"), str))


def _card(entry: Mapping[str, object]) -> Card:
    parent, length = entry.get("parent"), entry.get("max_model_len")
    return Card(
        str(entry["id"]), parent if isinstance(parent, str) else None, length if isinstance(length, int) else None
    )


def served(target: Target, model: str) -> frozenset[Need]:
    """What a model answers with 200. A chat model is asked nothing else: no engine serves the other kinds beside it."""
    kinds = set()
    for need, question in _QUESTIONS.items():
        try:
            answer = _ask(target, lambda bench, question=question: question(bench, model))  # type: ignore[misc]
        except UsageError:
            continue  # the deployment answered before; this one request is the cases' business
        if answer.status == 200:
            kinds.add(need)
            if need is Need.CHAT:
                kinds |= _beside_chat(target, model)
                break
    return frozenset(kinds)


def _beside_chat(target: Target, model: str) -> set[Need]:
    """Whether the Responses API is there; one that is there and fails is for its cases to judge."""
    body = {"model": model, "input": "Say hello.", "max_output_tokens": 16}
    try:
        answer = _ask(target, lambda bench: bench.post("/v1/responses", body))
    except UsageError:
        return {Need.RESPONSES}
    return set() if is_missing(answer) else {Need.RESPONSES}


def is_missing(answer: Answer) -> bool:
    """Whether an answer says that the route, or the model on this route, is not served."""
    if answer.status in _MISSING:
        return True
    try:
        return answer.status == HTTPStatus.BAD_REQUEST and answer.json()["error"]["param"] == "model"
    except (Mismatch, KeyError, TypeError):
        return False


def _ask_chat(bench: Bench, model: str) -> Answer:
    return bench.post("/v1/chat/completions", {"model": model, "messages": list(samples.HELLO), "max_tokens": 1})


def _ask_embedding(bench: Bench, model: str) -> Answer:
    return bench.post("/v1/embeddings", {"model": model, "input": "hello"})


def _ask_rerank(bench: Bench, model: str) -> Answer:
    return bench.post("/v1/rerank", {"model": model, "query": "sun", "documents": ["the sun", "a dog"]})


def _ask_transcription(bench: Bench, model: str) -> Answer:
    body = samples.form(samples.model_part(model), samples.file_part())
    return bench.send("POST", "/v1/audio/transcriptions", body, samples.form_type())


_MISSING: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_QUESTIONS: Final[Mapping[Need, Callable[[Bench, str], Answer]]] = MappingProxyType(
    {
        Need.CHAT: _ask_chat,
        Need.EMBEDDING: _ask_embedding,
        Need.RERANK: _ask_rerank,
        Need.TRANSCRIPTION: _ask_transcription,
    }
)


def _check_named(target: Target, cards: tuple[Card, ...], serves: Mapping[str, frozenset[Need]]) -> None:
    listed = [card.id for card in cards]
    for need, model in target.named.items():
        if model not in listed and not serves.get(model):
            known = ", ".join(listed[:MOST_MODELS]) or "none"
            raise UsageError(f"{OPTION[need]} {model} is neither listed nor served; listed models: {known}")


def _chosen(target: Target, cards: tuple[Card, ...], serves: Mapping[str, frozenset[Need]]) -> dict[Need, str]:
    """What the user named, and for the other kinds the first listed model that serves them."""
    models = dict(target.named)
    adapters = [card.id for card in cards if card.parent]
    chats = [model for model, kinds in serves.items() if Need.CHAT in kinds and model not in adapters]
    for need in _QUESTIONS:
        able = chats if need is Need.CHAT else [model for model, kinds in serves.items() if need in kinds]
        if able:
            models.setdefault(need, able[0])
    if Need.RESPONSES in serves.get(models.get(Need.CHAT, ""), ()):
        models.setdefault(Need.RESPONSES, models[Need.CHAT])
    others = [model for model in chats if model != models.get(Need.CHAT)]
    if others:
        models.setdefault(Need.SECOND, others[0])
    if usable := [model for model in adapters if Need.CHAT in serves.get(model, ())]:
        models.setdefault(Need.LORA, usable[0])
    return models


def _contexts(
    target: Target, cards: tuple[Card, ...], serves: Mapping[str, frozenset[Need]], models: Mapping[Need, str]
) -> dict[str, int]:
    contexts = {card.id: card.context_length for card in cards if card.context_length and serves.get(card.id)}
    if target.context_length and Need.CHAT in models:
        contexts[models[Need.CHAT]] = target.context_length
    return contexts


def _brief(target: Target, answer: Answer) -> str:
    """The status with the error's message, or with the beginning of what came instead."""
    try:
        message = str(answer.json()["error"]["message"])
    except (Mismatch, KeyError, TypeError):
        message = str(answer).partition(" ")[2]
    return f"{answer.status}: {bounded(Mask(target.secrets)(message), _SHOWN)}"
