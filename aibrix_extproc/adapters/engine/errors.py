"""Errors of requests to engines, and the translation of the HTTP client's own errors.

EngineError is the root. EngineUnreachable: no connection, or it broke; EngineTimeout below it: connected, but silent.
EngineRefusal: the answer says no. EngineAnswerInvalid: the answer cannot be understood. EngineListUnusable: that of the
list of models.
"""

import os

import aiohttp

from aibrix_extproc.core.fleet.model import Health


class EngineError(Exception):
    """An engine that could not be asked; the text is for the operator."""

    health = Health.NOT_READY


class EngineUnreachable(EngineError):
    """There is no connection, or it broke."""

    health = Health.UNREACHABLE


class EngineTimeout(EngineUnreachable):
    """The engine does not answer in time, which is no refusal: it may be busy."""


class EngineRefusal(EngineError):
    """The engine's answer says no."""


class EngineAnswerInvalid(EngineError):
    """The engine's answer cannot be understood."""


class EngineListUnusable(EngineError):
    """The list of models is broken, which says nothing of the engine's other answers."""


def translated(error: aiohttp.ClientError | OSError, seconds: float) -> EngineError:
    """The error of ours for one of the HTTP client; the most specific class wins."""
    match error:
        case TimeoutError():  # the client's own timeouts are of this class, too
            return EngineTimeout(f"no answer within {seconds:g} s")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | aiohttp.InvalidURL():
            return EngineAnswerInvalid("its answer is not valid HTTP")
        case aiohttp.ServerDisconnectedError():
            return EngineUnreachable("the connection was closed before an answer")
        case OSError(errno=int(number)) if number > 0:
            return EngineUnreachable(os.strerror(number).lower())
        case _:
            return EngineUnreachable("the connection failed")
