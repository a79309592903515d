"""Which routes an engine has, by its task and options."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aibrix_extproc.simulator.options import SimulatorOptions, Task
from aibrix_extproc.simulator.routes import (
    audio,
    chat,
    cohere,
    completions,
    control,
    kv_blocks,
    messages,
    pooling,
    responses,
    scoring,
    tokenize,
    weights,
)
from aibrix_extproc.simulator.wire import Answer, Call

Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path: its handler for each method."""

    path: str
    methods: Mapping[str, Handler]


def _post(handler: Handler, *paths: str) -> list[Route]:
    return [Route(path, {"POST": handler}) for path in paths]


def _get(handler: Handler, *paths: str) -> list[Route]:
    return [Route(path, {"GET": handler}) for path in paths]


def routes_of(options: SimulatorOptions) -> list[Route]:
    """All routes of an engine."""
    routes = [
        *_get(control.health, "/health"),
        Route("/ping", {"GET": control.health, "POST": control.health}),
        *_get(control.version, "/version"),
        *_get(control.load, "/load"),
        *_get(control.metrics, "/metrics"),
        *_get(control.models, "/v1/models"),
        *_post(tokenize.tokenize, "/tokenize"),
        *_post(tokenize.detokenize, "/detokenize"),
    ]
    if options.lora_updating:
        routes += _post(control.load_adapter, "/v1/load_lora_adapter")
        routes += _post(control.unload_adapter, "/v1/unload_lora_adapter")
    if options.profiler:
        routes += _post(control.start_profile, "/start_profile")
        routes += _post(control.stop_profile, "/stop_profile")
    if options.tokenizer_info:
        routes += _get(control.tokenizer_info, "/tokenizer_info")
    if options.kv_connector:
        routes += _post(kv_blocks.give, "/kv_blocks/{request_id}")
    if options.dev_mode:
        routes += _dev_routes()
    return routes + _task_routes(options.task)


def _dev_routes() -> list[Route]:
    return [
        *_get(control.server_info, "/server_info"),
        *_get(control.is_sleeping, "/is_sleeping"),
        *_get(control.is_paused, "/is_paused"),
        *_post(control.sleep, "/sleep"),
        *_post(control.wake_up, "/wake_up"),
        *_post(control.pause, "/pause"),
        *_post(control.resume, "/resume"),
        *_post(control.release_kv_cache_memory, "/release_kv_cache_memory"),
        *_post(control.reset_prefix_cache, "/reset_prefix_cache"),
        *_post(control.reset_other_cache, "/reset_mm_cache", "/reset_encoder_cache"),
        *_post(control.abort_requests, "/abort_requests"),
        *_post(weights.start_weight_update, "/start_weight_update"),
        *_post(weights.update_weights, "/update_weights"),
        *_post(weights.finish_weight_update, "/finish_weight_update"),
        *_post(weights.update_weight_version, "/update_weight_version"),
        *_post(weights.weight_checker, "/weight_checker"),
        *_get(weights.weight_info, "/weight_info"),
        *_get(weights.get_world_size, "/get_world_size"),
    ]


def _task_routes(task: Task) -> list[Route]:
    ranks = [
        *_post(pooling.score, "/v1/score", "/score"),
        *_post(pooling.rerank, "/v1/rerank", "/rerank", "/v2/rerank"),
    ]
    pools = _post(pooling.create_pooling, "/pooling")
    match task:
        case Task.GENERATE:
            return _generate_routes()
        case Task.EMBED:
            # Embeddings can be compared, so vLLM gives embedding models the ranking routes as well.
            vectors = [
                *_post(pooling.create_embeddings, "/v1/embeddings"),
                *_post(cohere.embed, "/v2/embed"),
            ]
            return [*vectors, *pools, *ranks]
        case Task.CLASSIFY:
            return [*_post(pooling.classify, "/classify"), *pools]
        case Task.SCORE | Task.RERANK:
            return [*ranks, *pools]
        case Task.TRANSCRIPTION:
            return [
                *_post(audio.create_transcription, "/v1/audio/transcriptions"),
                *_post(audio.create_translation, "/v1/audio/translations"),
            ]


def _generate_routes() -> list[Route]:
    return [
        *_post(chat.create_chat_completion, "/v1/chat/completions"),
        *_post(completions.create_completion, "/v1/completions"),
        *_post(responses.create_response, "/v1/responses"),
        *_get(responses.retrieve_response, "/v1/responses/{response_id}"),
        *_post(responses.cancel_response, "/v1/responses/{response_id}/cancel"),
        *_post(messages.create_message, "/v1/messages"),
        *_post(messages.count_message_tokens, "/v1/messages/count_tokens"),
        *_post(scoring.score, "/generative_scoring"),
    ]


@dataclass(frozen=True, slots=True)
class Match:
    """A route that fits a path, and what its variable parts were."""

    route: Route
    values: tuple[str, ...] = ()


class RouteTable:
    """Finds the route of a path."""

    def __init__(self, routes: list[Route]) -> None:
        self._exact = {route.path: Match(route) for route in routes if "{" not in route.path}
        self._patterns = [
            (re.compile(re.sub(r"\{[^}]*\}", "([^/]+)", route.path)), route) for route in routes if "{" in route.path
        ]

    def find(self, path: str) -> Match | None:
        """The route of a path, if there is one."""
        match = self._exact.get(path)
        if match is not None:
            return match
        for pattern, route in self._patterns:
            found = pattern.fullmatch(path)
            if found:
                return Match(route, found.groups())
        return None
