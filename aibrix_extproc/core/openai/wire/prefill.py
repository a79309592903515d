"""Splits a request in two: the one that a prefill engine computes the prompt of, and the one that is answered.

As vLLM's examples do it: the first asks for one token in a whole answer and has `kv_transfer_params` that announce a
decode engine. Its answer has `kv_transfer_params` that say where the blocks are, and the second request repeats them.
"""

from enum import StrEnum
from typing import Final

import msgspec

from aibrix_extproc.core.openai.wire.splice import Edit, offset

MAX_TRANSFER_BYTES: Final = 1024 * 1024  # of what a prefill engine says; a number for each 16 tokens, as a rule
_TRANSFER: Final = b'"kv_transfer_params":'
_ASKED: Final = (
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,'
    b'"remote_host":null,"remote_port":null}'
)
_ABSENT: Final = msgspec.Raw()
_NULL, _FALSE = (msgspec.Raw(text) for text in (b"null", b"false"))
_ONE_ANSWER: Final = (_ABSENT, _NULL, _FALSE, msgspec.Raw(b"0"), msgspec.Raw(b"1"))
# NIXL's connector names its engine. vLLM 0.32 dies of parameters that lack one of the others.
_NIXL_ENGINE: Final = "remote_engine_id"
_NIXL_NEEDED: Final = ("remote_block_ids", _NIXL_ENGINE, "remote_request_id", "remote_port")
_NO_BLOCKS: Final = msgspec.Raw(b"[]")
_LOOPBACK: Final = frozenset({"", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1"})


class Unsplit(StrEnum):
    """Why a request cannot be split."""

    __hash__ = str.__hash__

    ANSWERS = "several answers"  # each would read the blocks, which are freed after the first
    PROMPTS = "several prompts"
    LOGPROBS = "logprobs of the prompt"  # only who computes the prompt has them
    TRANSFER = "transfer parameters of its own"
    LARGE = "a large body"
    MALFORMED = "malformed"


class _Members(msgspec.Struct):
    kv_transfer_params: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    stream_options: msgspec.Raw = _ABSENT
    min_tokens: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    max_completion_tokens: msgspec.Raw = _ABSENT
    n: msgspec.Raw = _ABSENT
    best_of: msgspec.Raw = _ABSENT
    use_beam_search: msgspec.Raw = _ABSENT
    prompt_logprobs: msgspec.Raw = _ABSENT
    echo: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT


class Split(msgspec.Struct, frozen=True, gc=False):
    """The changes that make the request for the prefill engine, and where the other one's parameters belong."""

    prefill: tuple[Edit, ...]
    start: int
    end: int  # the same as `start` if the body has no such member

    def with_transfer(self, params: bytes) -> Edit:
        """The change that writes what the prefill engine answered into the request for the decode engine."""
        return _written(self.start, self.end, _TRANSFER, params)


_DECODER: Final[msgspec.json.Decoder[_Members]] = msgspec.json.Decoder(_Members)
# What a prefill engine gets in place of a member that the request has.
_REPLACED: Final = (("stream", b"false"), ("stream_options", b"null"), ("min_tokens", b"0"))


def split(body: bytes, inside: int, limits: tuple[str, ...]) -> Split | Unsplit:
    """How a body is split, or why it cannot be. `inside`: behind its opening brace; `limits`: of the operation.

    The body has been read, so it is an object. Of members that come twice the last one counts, as for engines.
    """
    try:
        members = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Unsplit.MALFORMED
    why = _unsplit(members)
    if why is not None:
        return why
    edits = [_edit(body, members, name, value) for name, value in _REPLACED if _has(members, name)]
    edits += [_edit(body, members, name, b"1") for name in limits if _has(members, name)]
    if not _has(members, limits[0]):
        edits.append(_written(inside, inside, b'"%b":' % limits[0].encode(), b"1"))
    start = end = inside
    if members.kv_transfer_params is not _ABSENT:
        start = offset(body, members.kv_transfer_params)
        end = start + len(members.kv_transfer_params)
    edits.append(_written(start, end, _TRANSFER, _ASKED))
    return Split(tuple(edits), start, end)


def _unsplit(members: _Members) -> Unsplit | None:
    if any(one not in _ONE_ANSWER for one in (members.n, members.best_of, members.use_beam_search)):
        return Unsplit.ANSWERS
    if _is_several(members.prompt):
        return Unsplit.PROMPTS
    if members.prompt_logprobs not in (_ABSENT, _NULL) or members.echo not in (_ABSENT, _NULL, _FALSE):
        return Unsplit.LOGPROBS
    return None if members.kv_transfer_params in (_ABSENT, _NULL) else Unsplit.TRANSFER


def _is_several(prompt: msgspec.Raw) -> bool:
    """A text, or a list of tokens, is one prompt; engines take other lists for several."""
    start = memoryview(prompt)[:64].tobytes()
    return start.startswith(b"[") and not start[1:].lstrip()[:1].isdigit()


def _has(members: _Members, name: str) -> bool:
    return getattr(members, name) is not _ABSENT


def _edit(body: bytes, members: _Members, name: str, value: bytes) -> Edit:
    raw = getattr(members, name)
    start = offset(body, raw)
    return Edit(start, start + len(raw), value)


def _written(start: int, end: int, name: bytes, value: bytes) -> Edit:
    """A value in place of the one that is there, or a member in front of all others."""
    return Edit(start, end, value) if end > start else Edit(start, end, name + value + b",")


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    kv_transfer_params: msgspec.Raw = _ABSENT
    usage: _Usage | None = None


class PrefillAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the answer of a prefill engine says. `transfer` is empty if there is nothing to take over."""

    transfer: bytes
    prompt_tokens: int = 0
    cached_tokens: int | None = None  # None: it does not say


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_TEXTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_answer(data: bytes, host: str) -> PrefillAnswer | None:
    """What a prefill engine at this host answered; None if that cannot be read.

    vLLM says where its blocks are by `VLLM_NIXL_SIDE_CHANNEL_HOST`, which is `localhost` unless set. Then, or where
    it says nothing, the engine's own host is written.
    """
    try:
        answer = _ANSWER.decode(data)
        raw = answer.kv_transfer_params
        transfer = b"" if raw in (_ABSENT, _NULL) else _with_host(raw, host)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(transfer) > MAX_TRANSFER_BYTES:
        return None
    usage = answer.usage
    if usage is None:
        return PrefillAnswer(transfer)
    details = usage.prompt_tokens_details
    return PrefillAnswer(transfer, usage.prompt_tokens, None if details is None else details.cached_tokens)


def _with_host(raw: msgspec.Raw, host: str) -> bytes:
    """The parameters, with this host if they have none. Raises ValidationError for NIXL's if they lack something."""
    params = _TEXTS.decode(raw)
    if _NIXL_ENGINE in params and any(params.get(name, _NULL) in (_NULL, _NO_BLOCKS) for name in _NIXL_NEEDED):
        raise msgspec.ValidationError("they lack something")
    named = params.get("remote_host")
    said = "" if named is None or named == _NULL else msgspec.json.decode(named, type=str)
    if said not in _LOOPBACK:
        return bytes(raw)
    params["remote_host"] = msgspec.Raw(msgspec.json.encode(host))
    return msgspec.json.encode(params)
