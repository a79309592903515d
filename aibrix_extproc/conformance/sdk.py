"""The OpenAI SDK, whichever generation is installed: the only module that imports it."""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, Final

from aibrix_extproc.conformance.case import Inapplicable, Mismatch
from aibrix_extproc.conformance.target import Origin, UsageError
from aibrix_extproc.conformance.wire import SHOWN_BYTES, Answer

OLDEST: Final = (1, 109)
INSTALL: Final = "in the clone run pip install -e '.[conformance]'"


def version() -> str:
    """The installed SDK's; UsageError if there is none or it is too old."""
    try:
        found = importlib.metadata.version("openai")
        importlib.import_module("openai")
    except ImportError as error:
        raise UsageError(f"the OpenAI SDK is missing; {INSTALL}") from error
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise UsageError(f"the OpenAI SDK {found} is too old, 1.109 or newer is needed: {INSTALL}")
    return found


def client(origin: Origin, options: dict[str, Any], on_request: Callable[[object], None]) -> Any:
    """A client without retries; `on_request` sees every HTTP request that it makes."""
    import openai

    http_client = openai.DefaultHttpxClient(**_connecting(origin), event_hooks={"request": [on_request]})
    return openai.OpenAI(**_given(origin, options), http_client=http_client)


def not_found() -> Any:
    """The class of the exception for a 404."""
    import openai

    return openai.NotFoundError


def async_client(origin: Origin, options: dict[str, Any]) -> Any:
    """The same for coroutines."""
    import openai

    http_client = openai.DefaultAsyncHttpxClient(**_connecting(origin))
    return openai.AsyncOpenAI(**_given(origin, options), http_client=http_client)


def _connecting(origin: Origin) -> dict[str, Any]:
    # Nothing from the environment: its proxies would be judged with the deployment. Without TLS there is nothing to
    # verify, and reading the certificates takes a tenth of a second for each client.
    return {"trust_env": False, "verify": origin.is_secure and origin.verifies_tls}


def _given(origin: Origin, options: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": origin.base_url, "max_retries": 0} | options


def refused(call: Callable[[], object], class_name: str, root: str = "") -> tuple[Any, Answer]:
    """The exception of an SDK call that must raise it, and the answer behind it. `root`: of what else it does."""
    import openai

    wanted = getattr(openai, class_name)
    try:
        value = call()
    except openai.APIStatusError as error:
        if not isinstance(error, wanted):
            raise Mismatch(f"openai.{class_name}", described(error), root) from error
        return error, answer_of(error.response)
    raise Mismatch(f"openai.{class_name}", f"no exception, but {value!r}", root)


def is_limit(error: Exception) -> bool:
    """Whether the SDK raised this because the deployment wants fewer requests."""
    import openai

    return isinstance(error, openai.RateLimitError)


def status_error(call: Callable[[], object]) -> Answer | None:
    """The answer behind an SDK call's APIStatusError; nothing if the call succeeds."""
    import openai

    try:
        call()
    except openai.APIStatusError as error:
        return answer_of(error.response)
    return None


def finished(call: Callable[[], Any]) -> Any:
    """What an SDK call gives that needs a whole answer; a model that never ends its answer cannot be asked for one."""
    import openai

    try:
        return call()
    except openai.LengthFinishReasonError as error:
        raise Inapplicable("the model did not end its answer within the tokens that it was given") from error


def answer_of(response: Any) -> Answer:
    """An SDK's response as we judge it."""
    pairs = tuple((name.lower(), value) for name, value in response.headers.multi_items())
    return Answer(response.status_code, pairs, response.content)


def described(error: BaseException) -> str:
    """An exception in one line, with the answer that it is about."""
    response = getattr(error, "response", None)
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    text = f"{type(error).__name__}: {error}{cause}"
    if response is None:
        return text
    try:
        content: bytes = response.content
    except RuntimeError:  # a stream that was not read to its end
        return text
    return f"{type(error).__name__}, {response.status_code}: {content[:SHOWN_BYTES].decode(errors='replace')}"
