"""What chat, text completions and their relatives share: checks of sampling parameters, and scripts."""

import re
from collections.abc import Sequence

from aibrix_extproc.simulator.engine import Job
from aibrix_extproc.simulator.engine_fields import values_of
from aibrix_extproc.simulator.errors import EngineError, bad_parameter, bad_request, bad_value
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.ranges import check_ranges
from aibrix_extproc.simulator.requests import Sampling
from aibrix_extproc.simulator.script import Bounds, Script, text_script, word_tokens, write_script
from aibrix_extproc.simulator.wire import Call

_MAX_LOGPROBS = 20


def check_sampling(body: Sampling, max_tokens: int | None) -> None:
    """Refuse parameters out of range, in vLLM's words; only some of its refusals name the parameter."""
    # An empty object is as good as none: vLLM asks for the truth of the raw value.
    if body.stream_options is not None and body.stream_options.model_dump(exclude_unset=True) and not body.stream:
        raise stream_options_error()
    check_temperature(body.temperature, body.top_p, max_tokens)
    if body.n is not None and body.n < 1:
        raise bad_request(f"n must be at least 1, got {body.n}.")
    check_ranges(values_of(body))
    if max_tokens is not None and body.min_tokens > max_tokens:
        raise bad_request(f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {body.min_tokens}.")


def check_temperature(temperature: float | None, top_p: float | None, max_tokens: int | None) -> None:
    """Refuse what every kind of generation refuses."""
    if temperature is not None and temperature < 0:
        raise bad_value("temperature", temperature, f"temperature must be non-negative, got {temperature}.")
    if temperature is not None and temperature > 2:
        raise bad_value("temperature", temperature, f"temperature must be in [0, 2], got {temperature}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise bad_value("top_p", top_p, f"top_p must be in (0, 1], got {top_p}.")
    if max_tokens is not None and max_tokens < 1:
        raise bad_value("max_tokens", max_tokens, f"max_tokens must be at least 1, got {max_tokens}.")


def check_logprobs(count: int | None) -> None:
    """Refuse more alternatives than an engine gives."""
    if count is not None and count > _MAX_LOGPROBS:
        raise bad_value(
            "logprobs",
            count,
            f"Requested sample logprobs of {count}, which is greater than max allowed: {_MAX_LOGPROBS}",
        )


def stream_options_error() -> EngineError:
    """The refusal of options without a stream."""
    return bad_parameter("stream_options", "Stream options can only be defined when `stream=True`.")


def stops_of(body: Sampling) -> tuple[str, ...]:
    """The stop strings."""
    if not body.stop:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def answer_script(
    call: Call,
    prompt: bytes,
    bounds: Bounds,
    choice: int = 0,
    seed: int | None = None,
    text: str | None = None,
    ignore_eos: bool = False,
) -> Script:
    """What the engine says to a prompt; a text (of a schema, of a header) is said as it is."""
    if text is None:
        text = call.pace.text
    if text is not None:
        return text_script(text, bounds)
    options = call.engine.options
    wanted = options.output_tokens if call.pace.tokens is None else call.pace.tokens
    if ignore_eos:
        wanted = bounds.max_tokens
    wanted = max(wanted, bounds.min_tokens)
    # One word more than allowed is enough to see that the answer was cut.
    count = min(wanted, bounds.max_tokens + 1)
    mixed = options.seed * 1000003 + (seed or 0)
    script = write_script(word_tokens(mixed, prompt, choice, count), bounds)
    return Script(script.pieces, "length", None) if ignore_eos and script.stop_reason is None else script


def make_job(
    call: Call, model: Model, prompt: bytes, prompt_tokens: int, scripts: Sequence[Script], max_tokens: int, salt: str
) -> Job:
    """The engine's view of a request."""
    return Job(
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        lengths=tuple(len(script.pieces) for script in scripts),
        finish_reasons=tuple(script.finish_reason for script in scripts),
        output=scripts[0].text.encode("utf-8", "replace") if scripts else b"",
        max_tokens=max_tokens,
        adapter=model.adapter,
        cache_salt=salt,
        itl_seconds=call.pace.itl_seconds,
        tokens_per_write=call.pace.tokens_per_write,
        priority=_priority(call.headers.get("x-vllm-priority", "")),
    )


def _priority(text: str) -> int:
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else 0


def token_budget(requested: int | None, prompt_tokens: int, options: SimulatorOptions) -> int:
    """How many tokens an answer may have."""
    room = options.max_model_len - prompt_tokens
    return room if requested is None else min(requested, room)


def load_headers(call: Call) -> dict[str, str]:
    """The in-band load report, for who asks for it."""
    form = call.headers.get("endpoint-load-metrics-format", "").upper()
    if form not in ("TEXT", "JSON"):
        return {}
    scheduler = call.engine.scheduler
    waiting = float(sum(claim.sequences for claim in scheduler.waiting.values()))
    usage = scheduler.cache_usage
    if form == "TEXT":
        text = f"TEXT named_metrics.num_requests_waiting={waiting}, named_metrics.kv_cache_usage_perc={usage}"
    else:
        text = f'JSON {{"named_metrics": {{"num_requests_waiting": {waiting}, "kv_cache_usage_perc": {usage}}}}}'
    return {"endpoint-load-metrics": text}
