"""Known messages of engines, and the problem that each stands for.

The texts are matched, since vLLM's types and codes do not tell these cases apart. Where the engine's own words speak
about flags, paths or environment variables of the server, the client gets ours.
"""

import re
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import ModelIn, Operation, unknown_url
from aibrix_extproc.core.openai.upstream.text import for_client, redacted


@dataclass(frozen=True, slots=True)
class Request:
    """What the refused request was."""

    method: str
    path: str
    operation: Operation | None
    model: str | None = None
    constrained_by: str | None = None  # the member with a schema or a grammar
    response_format: str | None = None  # of a form
    names_language: bool = False  # of a form

    @property
    def prompt_param(self) -> str | None:
        """The field that holds the prompt."""
        return self.operation.prompt_param if self.operation is not None else None

    @property
    def constraint_param(self) -> str | None:
        """The field that constrains the text."""
        inside = {"text": "text.format", "output_config": "output_config.format"}
        return inside.get(self.constrained_by or "", self.constrained_by)

    @property
    def is_form(self) -> bool:
        """Whether its body was a form."""
        return self.operation is not None and self.operation.model_in is ModelIn.FORM

    @property
    def makes_response(self) -> bool:
        """Whether it was to make a response."""
        return self.operation is not None and self.operation.makes_response


@dataclass(frozen=True, slots=True)
class Rule:
    """A message (or an engine's param) and what it means."""

    pattern: re.Pattern[str]
    key: str
    param: str | None = None
    message: str | None = None  # None keeps the engine's words; `{model}` is filled in
    code: str | None = None


MATCHED_CHARS: Final = 2048  # of a message; what matters stands at the beginning, and each pattern passes all of it
PROMPT: Final = "*prompt*"  # stands for the field that holds the prompt of this operation
# Stands for the field that constrains the text: of a structural tag, if there is no other, the tools.
CONSTRAINT: Final = "*constraint*"
FIRST: Final = "*first*"  # stands for the field with which the message begins, if the engine names none


def _rule(
    pattern: str, key: str, param: str | None = None, message: str | None = None, code: str | None = None
) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE | re.DOTALL), key, param, message, code)


RULES: Final = (
    # pattern, ERRORS row, param, message, code
    _rule(
        r"stream[ _]options.{0,80}(?:only|when|without|requires).{0,80}stream", "stream_options_without_stream",
        "stream_options",
    ),
    _rule(
        r"unsupported media type|^expected request with .content-type", "bad_request", None,
        "Unsupported content type. This API method only accepts 'application/json' requests.",
        "unsupported_content_type",
    ),
    _rule(
        r"empty conversation", "invalid_value", PROMPT,
        "Invalid '{param}': empty array. Expected an array with at least one message.",
    ),
    _rule(
        r"enable-auto-tool-choice|tool-call-parser|tool parsing is disabled", "unsupported_parameter", "tool_choice",
        "Unsupported parameter: 'tool_choice' is not supported with this model; it cannot choose tools by itself.",
    ),
    _rule(
        r"not a multimodal model", "unsupported_value", PROMPT,
        "Unsupported value: the model '{model}' does not take images, audio or video.",
    ),
    _rule(r"at most 0 (?P<what>image|audio|video)|unsupported multimodal content: (?P<other>image|audio|video)",
          "unsupported_value", PROMPT, "Unsupported value: the model '{model}' does not take {what} input."),
    _rule(
        r"pass at least one prompt|at least one prompt token ID|has an empty prompt_token_ids", "invalid_value", PROMPT,
        "Invalid '{param}': it is empty.",
    ),
    _rule(r"^only n=1 is supported", "unsupported_value", "n",
          "Unsupported value: 'n' does not support other values than 1 with this model."),
    _rule(r"^(?P<what>[a-z_]{1,64}) is not supported\.?(?: \(parameter=|$)", "unsupported_parameter", None,
          "Unsupported parameter: '{what}' is not supported with this model."),
    _rule(r"^token id \S+ is out of vocabulary", "invalid_value", PROMPT),
    _rule(
        r"^chat template is passed with request", "unsupported_parameter", "chat_template",
        "Unsupported parameter: 'chat_template' is not supported with this model.",
    ),
    _rule(
        r"^grammar error|^invalid (?:json )?grammar|^invalid structured outputs(?:.{1,256}(?P<what>structural tag))?"
        r"|JSON schema is nested"
        r"|(?:one kind of|use one kind of) (?:structured outputs|constraints)|^choice '",
        "invalid_value", CONSTRAINT,
    ),
    _rule(r"only base64 data URLs|URL must be (?:either|an? )|invalid data URL|must be from one of the allowed domains"
          r"|local files without|(?:cannot|can't) identify image|^incorrect padding|base64-encoded string"
          r"|^failed to parse: host |^multi_modal_data\[",
          "invalid_image_url"),
    _rule(r"^at most \d+ (?:image|audio|video)", "invalid_value", PROMPT),
    _rule(
        r"RESPONSES_API_STORE", "unsupported_parameter", "background",
        "Unsupported parameter: 'background' is not supported with this model, because its responses are not stored.",
    ),
    _rule(
        r"matryoshka|dimensions.{0,80}(?:not supported|does not support)", "unsupported_parameter", "dimensions",
        "Unsupported parameter: 'dimensions' is not supported with this model.",
    ),
    _rule(
        r"suffix\b.{0,80}(?:not (?:currently )?supported|fill.in|FIM)", "unsupported_parameter", "suffix",
        "Unsupported parameter: 'suffix' is not supported with this model.",
    ),
    _rule(r"does not support \S+(?: \S+)? API\b", "model_wrong_task"),
    _rule(r"(?:failed to|could not|error) (?:load|fetch|download).{0,40}\b(?:image|audio|video|media|url)",
          "invalid_image_url"),
    _rule(r"^(?:invalid or unsupported audio|maximum file size exceeded)", "invalid_value", "file"),
    _rule(r"prompt (?:is|cannot be|must not be|can't be) empty|\bempty prompt\b", "invalid_value", PROMPT),
    _rule(r"^requested prompt_logprobs of ", "invalid_value", "prompt_logprobs"),
    _rule(r"^(?:assistant messages must contain|function messages are not supported)", "invalid_value", PROMPT),
    _rule(
        r"^`?(?P<what>[a-z]{1,32}(?:_[a-z]{1,32}){1,4})`?(?:=\S{1,64})? (?:must|cannot|should not) be ",
        "invalid_value", FIRST,
    ),
    _rule(r"^disallowed CORS", "bad_request", None, "This origin is not allowed."),
)  # fmt: skip

_CONTEXT: Final = re.compile(
    r"maximum context length|exceeds the max_model_len|longer than the maximum model length|context window",
    re.IGNORECASE,
)
_CONTEXT_TEXT: Final = re.compile(r"maximum context length is \d+ tokens")
# The longer spellings, each with the length and the limit, in this order.
_CONTEXT_NUMBERS: Final = re.compile(
    r"(?:prompt|input) (?:\(length |length \(?)(\d+)\)? (?:exceeds|is longer).{0,60}?"
    r"(?:max_model_len|model length of|context length) \(?(\d+)",
    re.IGNORECASE | re.DOTALL,
)
_LENGTH_PARAMS: Final = frozenset({"input_tokens", "input_text"})
_OUTPUT_PARAMS: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
_TOO_MANY_LOGPROBS: Final = re.compile(r"requested (?:sample )?logprobs of ", re.IGNORECASE)
_UNKNOWN_MODEL: Final = re.compile(r"\bmodel [`'\"](?P<name>[^`'\"]{1,256})[`'\"] does not exist", re.IGNORECASE)
_BROKEN_BODY: Final = re.compile(
    r"^JSON decode error|error parsing the body|^invalid JSON\b(?! (?:grammar|schema))", re.IGNORECASE
)


def problem_by_words(message: str, param: str | None, request: Request) -> Problem | None:
    """The problem that a message is known for. `param` is the engine's, without its prefix."""
    message = message[:MATCHED_CHARS]
    if _BROKEN_BODY.search(message):
        return unreadable(request)
    if _CONTEXT.search(message) or param in _LENGTH_PARAMS:
        named = param if param in _OUTPUT_PARAMS else request.prompt_param
        return Problem("context_length_exceeded", {"message": _context_text(message)}, param=named)
    if _UNKNOWN_MODEL.search(message):
        return unknown_model(message, request)
    rule = next((rule for rule in RULES if rule.pattern.search(message)), None)
    return None if rule is None else _applied(rule, message, param, request)


def unknown_model(message: str, request: Request) -> Problem:
    """The problem of a model that the engine does not serve (any more)."""
    found = _UNKNOWN_MODEL.search(message)
    name = request.model or (redacted(found["name"]) if found else "")
    return Problem("model_not_found", {"model": name})


def unreadable(request: Request) -> Problem:
    """The problem of a body that the engine could not parse."""
    if request.is_form:
        return Problem("malformed_multipart", {"reason": "the form cannot be read"})
    return Problem("malformed_json")


def wrong_task(request: Request) -> Problem:
    """The problem of an engine without the route; without a model it is just an unknown URL."""
    if request.model:
        return Problem("model_wrong_task", {"model": request.model})
    return unknown_url(request.method, request.path)


def named_here(param: str | None, message: str, request: Request) -> str | None:
    """A field as this operation calls it: engines use one name for what OpenAI's operations call differently."""
    operation = request.operation
    if operation is None:
        return param
    if _TOO_MANY_LOGPROBS.match(message):
        return operation.logprobs_param
    return operation.field_names.get(param, param) if param is not None else None


def _named(rule: Rule, what: str, param: str | None, request: Request) -> str | None:
    match rule.param:
        case "*first*":
            return param or what
        case "*prompt*":
            return request.prompt_param
        case "*constraint*":
            return param or request.constraint_param or ("tools" if what else None)
        case _:
            return rule.param or param


def _what(rule: Rule, message: str) -> str:
    """The engine's own word in the message that a rule is about."""
    found = rule.pattern.search(message)
    return next((word.lower() for word in (found.groupdict().values() if found else ()) if word), "")


def _filled(rule: Rule, what: str, param: str | None, request: Request) -> str:
    """The rule's own words, with the model, the field and what of the engine's words is for the client."""
    return (
        (rule.message or "")
        .replace("{model}", request.model or "")
        .replace("{param}", param or "")
        .replace("{what}", what)
    )


def _context_text(message: str) -> str:
    text = for_client(message)
    numbers = _CONTEXT_NUMBERS.search(message)
    if _CONTEXT_TEXT.search(text) or (numbers is None and text):
        return text
    if numbers is None:
        return "Your input exceeds the context window of this model. Please shorten it and try again."
    return (
        f"This model's maximum context length is {numbers[2]} tokens. However, your input has {numbers[1]} tokens. "
        "Please reduce its length."
    )


def _applied(rule: Rule, message: str, param: str | None, request: Request) -> Problem:
    if rule.key == "model_wrong_task":
        return wrong_task(request)
    what = _what(rule, message)
    named = _named(rule, what, param, request)
    text = for_client(message) if rule.message is None else _filled(rule, what, named, request)
    return Problem(rule.key, {"message": text or "The request was refused."}, param=named, code=rule.code)
