"""Reads from a running gateway and its engines over HTTP, for `aibrix-extproc local`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from aibrix_extproc.app.local.errors import LocalError
from aibrix_extproc.app.local.plan import Plan
from aibrix_extproc.app.local.ports import LOOPBACK
from aibrix_extproc.core.fleet.model import Health

ENGINE_SECONDS: Final = 5.0  # for a running engine to answer anything at all
SETTLE_SECONDS: Final = 30.0
_PAUSE: Final = 0.05
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True)
class SeenEndpoint:
    """An endpoint as a gateway worker sees it."""

    address: str
    health: str
    detail: str
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


async def reach(session: aiohttp.ClientSession, address: str) -> str | None:
    """Why an engine does not answer; None if it answers at all."""
    timeout = aiohttp.ClientTimeout(total=ENGINE_SECONDS)
    try:
        async with session.get(f"http://{address}/health", timeout=timeout, allow_redirects=False):
            return None
    except TimeoutError:
        return f"no answer within {ENGINE_SECONDS:g} s"
    except aiohttp.ClientConnectorDNSError:
        return "its host name cannot be resolved"
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return "connection refused" if refused else (error.os_error.strerror or "no connection").lower()
    except aiohttp.ClientError:
        return "it does not speak HTTP"


async def settled_endpoints(session: aiohttp.ClientSession, plan: Plan) -> Sequence[SeenEndpoint]:
    """The endpoints as soon as every worker has asked every engine once."""
    seen: list[SeenEndpoint] = []

    async def have_settled() -> bool:
        seen.clear()
        for worker in plan.workers:
            fleet = await _get(session, f"http://{LOOPBACK}:{worker.admin_port}/fleet")
            if fleet is None or not fleet["known"]:
                return False
            found = [_seen(one) for one in fleet["endpoints"]]
            seen.extend(one for one in found if one not in seen)
        return all(one.health != Health.UNKNOWN for one in seen)

    if not await _within(SETTLE_SECONDS, have_settled):
        raise LocalError(f"The gateway has not asked its engines within {SETTLE_SECONDS:g} s {_look(plan)}.")
    return seen


def _seen(one: dict[str, Any]) -> SeenEndpoint:
    return SeenEndpoint(one["address"], one["health"], one["detail"], tuple(one["models"]), tuple(one["tasks"]))


async def listed_models(session: aiohttp.ClientSession, plan: Plan, endpoints: Sequence[SeenEndpoint]) -> Sequence[str]:
    """The models that a client sees, asked as a client asks: through Envoy.

    A key file has hashes only and may restrict any key, so there may be no key here that can list. Then the refusal
    shows that the way through Envoy works, and the fleet names the models.
    """
    headers = {"authorization": f"Bearer {plan.client_key}"} if plan.client_key else {}
    models: list[str] = []

    async def are_listed() -> bool:
        status, page = await _ask(session, f"{plan.base_url}/models", headers)
        if status in (401, 403) and plan.settings.access.key_file is not None:
            models[:] = sorted({model for one in endpoints for model in one.models})
            return True
        models[:] = [one["id"] for one in page["data"]] if status == 200 and page else []
        return status == 200 and page is not None

    if not await _within(SETTLE_SECONDS, are_listed):
        raise LocalError(f"{plan.base_url}/models gives no list of models {_look(plan)}.")
    return models


def _look(plan: Plan) -> str:
    return f"(look into {plan.directories.logs})"


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any] | None:
    status, page = await _ask(session, url, {})
    return page if status == 200 else None


async def _ask(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> tuple[int, dict[str, Any] | None]:
    """Status and JSON object of a GET; status 0 if there is no such answer."""
    try:
        async with session.get(url, headers=headers, timeout=_TIMEOUT) as response:
            return response.status, dict(await response.json())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return 0, None


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(_PAUSE)
            return True
    return False
