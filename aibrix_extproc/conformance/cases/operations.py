"""Acceptance 7.11: vLLM's operational interface with an administrator's key. Cases that change engines run alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch, Need
from aibrix_extproc.conformance.expect import check, expect_completion, expect_error, expect_json, expect_status
from aibrix_extproc.conformance.wire import Answer

ADAPTER: Final = "conformance-adapter"
NOWHERE: Final = "/nope/conformance-adapter"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
SOON_SECONDS: Final = 2.0  # after the engines have done it
PATHS: Final = (
    ("POST", LOAD), ("POST", UNLOAD), ("POST", "/sleep"), ("POST", "/wake_up"), ("GET", "/is_sleeping"),
    ("POST", "/pause"), ("POST", "/resume"), ("POST", "/reset_prefix_cache"), ("GET", "/version"),
    ("POST", "/update_weights"),
)  # fmt: skip


def _load(bench: Bench) -> None:
    with _loaded(bench):
        _within(SOON_SECONDS, "an answer of the adapter", lambda: bench.chat({"model": ADAPTER}).status == 200)
        listed = expect_json(bench.send("GET", "/v1/models"))
        check(ADAPTER in [card["id"] for card in listed["data"]], f"{ADAPTER} in the list of models", listed)


def _load_wrongly(bench: Bench) -> None:
    with _loaded(bench):
        expect_status(_load_adapter(bench, str(bench.target.lora_path)), 400)
        other = _load_adapter(bench, f"{bench.target.lora_path}-other")
        expect_status(other, 400, 409)
    expect_status(_load_adapter(bench, NOWHERE), 404)
    expect_status(_load_adapter(bench, str(bench.target.lora_path), name=bench.model()), 400)
    for path in ("/adapters/../../etc", "http://169.254.169.254/latest", "a\0b", ""):
        expect_error(_load_adapter(bench, path), 400)


def _unload_while_streaming(bench: Bench) -> None:
    with _loaded(bench):
        _within(SOON_SECONDS, "an answer of the adapter", lambda: bench.chat({"model": ADAPTER}).status == 200)
        hello = [{"role": "user", "content": "Say hello."}]
        stream = bench.client().chat.completions.create(model=ADAPTER, messages=hello, max_tokens=64, stream=True)
        chunks = iter(stream)
        first = next(chunks)
        expect_status(_unload(bench), 200)
        last = [first, *chunks][-1]
        check(last.choices and last.choices[0].finish_reason, "a finish_reason at the stream's end", last)
        _within(SOON_SECONDS, "404 for the adapter", lambda: bench.chat({"model": ADAPTER}).status == 404)


def _sleep(bench: Bench) -> None:
    _rest(bench, "/sleep?mode=wait", "/wake_up", "/is_sleeping", "is_sleeping")


def _pause(bench: Bench) -> None:
    _rest(bench, "/pause?mode=keep", "/resume", "/is_paused", "is_paused")


def _rest(bench: Bench, begin: str, end: str, asked: str, field: str) -> None:
    of_model = f"{'&' if '?' in begin else '?'}model={bench.model()}"
    try:
        answer = _admin(bench, "POST", begin + of_model)
        if answer.status == 404:
            raise Inapplicable("the engines are not in developer mode")
        expect_status(answer, 200)
        state = expect_json(_admin(bench, "GET", f"{asked}?model={bench.model()}"))
        check(state.get(field) is True, f"{field} true", state)
        _within(SOON_SECONDS, "503 while all engines are at rest", lambda: bench.chat().status == 503)
    finally:
        woken = _admin(bench, "POST", f"{end}?model={bench.model()}")
    expect_status(woken, 200)
    _within(SOON_SECONDS, "an answer after they work again", lambda: bench.chat().status == 200)


def _reset_cache(bench: Bench) -> None:
    answer = _admin(bench, "POST", f"/reset_prefix_cache?model={bench.model()}")
    if answer.status == 404:
        raise Inapplicable("the engines are not in developer mode")
    found = expect_json(answer)
    check(found.get("success") in (True, False), "success, true or false", found)
    expect_completion(bench.chat())


def _of_users(bench: Bench) -> None:
    unknown = expect_error(bench.send("GET", "/v1/nothing-of-this-name"), 404)
    for method, path in PATHS:
        error = expect_error(bench.send(method, path, b"{}" if method == "POST" else None), 404)
        check(error["type"] == unknown["type"], f"type {unknown['type']} as of an unknown URL", error)


# --- an administrator's requests


@contextmanager
def _loaded(bench: Bench) -> Iterator[None]:
    answer = _load_adapter(bench, str(bench.target.lora_path))
    if answer.status == 404 and "LoRA" not in str(answer) and "lora" not in str(answer):
        raise Inapplicable("the engines do not take adapters while they run")
    expect_status(answer, 200)
    try:
        yield
    finally:
        _unload(bench)


def _load_adapter(bench: Bench, path: str, name: str = ADAPTER) -> Answer:
    body = {"lora_name": name, "lora_path": path}
    return bench.post(f"{LOAD}?model={bench.model()}", body, bench.admin_headers(), key=False)


def _unload(bench: Bench) -> Answer:
    return bench.post(f"{UNLOAD}?model={bench.model()}", {"lora_name": ADAPTER}, bench.admin_headers(), key=False)


def _admin(bench: Bench, method: str, path: str) -> Answer:
    return bench.send(method, path, None, bench.admin_headers(), key=False)


def _within(seconds: float, what: str, holds: Callable[[], bool]) -> None:
    """Ask again and again until it holds."""
    ends_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends_at:
            raise Mismatch(f"{what} within {seconds:g} s", "none")
        time.sleep(0.05)


_NEEDS: Final = (Need.ADMIN, Need.CHAT)
CASES: Final = (
    # id, title, expected, check, needs
    Case("OPS-01", "load an adapter", "usable within 2 s, and listed", _load, (*_NEEDS, Need.ADAPTER), is_alone=True),
    Case(
        "OPS-02", "load it twice, from nowhere, under a model's name", "400, 404, 400; wrong paths 400", _load_wrongly,
        (*_NEEDS, Need.ADAPTER), is_alone=True,
    ),
    Case(
        "OPS-03", "unload an adapter while it streams", "the stream ends well, then 404", _unload_while_streaming,
        (*_NEEDS, Need.ADAPTER), is_alone=True,
    ),
    Case("OPS-04", "sleep and wake up", "503 while asleep, then answers again", _sleep, _NEEDS, is_alone=True),
    Case("OPS-05", "pause with mode=keep, and resume", "the same", _pause, _NEEDS, is_alone=True),
    Case("OPS-06", "reset the prefix cache", "success, true or false", _reset_cache, _NEEDS, is_alone=True),
    Case("OPS-16", "a user's key on operators' paths", "404 as an unknown URL", _of_users, (Need.ADMIN,)),
)  # fmt: skip
