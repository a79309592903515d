"""What a client asks for and what the model's configuration says, to how its request is placed."""

from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.modelconfig import AUTO, ModelConfig, Profile
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import CHOSEN_PROFILE, SESSION_ID
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.placing import RoutingHeaders
from aibrix_extproc.core.routing.registry import NOT_HERE, STRATEGIES
from aibrix_extproc.core.routing.selector import InvalidSelector, Selector, parse_selector, selected

_NONE: Final = RoutingHeaders()
_SHOWN: Final = 64  # characters of a client's value in an answer


class Plan(msgspec.Struct, frozen=True, gc=False):
    """A strategy that there is, which endpoints it may pick from, and what the client is told with its answer."""

    strategy: str
    selector: Selector = ()
    session: str = ""
    answer_headers: tuple[tuple[str, str], ...] = ()

    def allowed(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The endpoints that the selector leaves."""
        return selected(self.selector, endpoints)


def plan_of(headers: RoutingHeaders | None, config: ModelConfig | None, default: str, draw: float) -> Plan | Problem:
    """How to place a request. A locked strategy goes before the client's, that before the profile's, then `default`."""
    headers = headers or _NONE
    profile, told = _profile(headers, config)
    strategy = _strategy(headers, config, profile, default)
    if isinstance(strategy, Problem):
        return strategy
    selector: Selector = ()
    if headers.external_filter:
        try:
            selector = parse_selector(headers.external_filter)
        except InvalidSelector as error:
            return Problem("invalid_external_filter", {"reason": str(error)})
    if not STRATEGIES[strategy].spec.keeps_sessions:
        return Plan(strategy, selector, answer_headers=told)
    # 53 bits of chance: two sessions with one id would only share an endpoint.
    session = headers.session or f"{int(draw * 2**53):014x}"
    return Plan(strategy, selector, session, (*told, (SESSION_ID, session)))


def unknown_strategies(config: ModelConfig) -> tuple[str, ...]:
    """Strategies that a configuration names and that are not here; the gateway's own is used for them."""
    return tuple(name for name in config.strategies if name not in STRATEGIES)


def _profile(headers: RoutingHeaders, config: ModelConfig | None) -> tuple[Profile | None, tuple[tuple[str, str], ...]]:
    if config is None:
        return None, ()
    name = (headers.profile or "").strip()
    if name.lower() != AUTO:
        return config.profile(name), ()
    chosen = config.profile_for(headers.prompt_tokens, headers.max_tokens)
    return chosen, () if chosen is None else ((CHOSEN_PROFILE, chosen.name),)


def _strategy(
    headers: RoutingHeaders, config: ModelConfig | None, profile: Profile | None, default: str
) -> str | Problem:
    if config is not None and config.locked_strategy:
        return config.locked_strategy if config.locked_strategy in STRATEGIES else default
    asked = (headers.strategy or "").strip().lower()
    if asked:
        return asked if asked in STRATEGIES else _refusal(asked)
    return profile.strategy if profile is not None and profile.strategy in STRATEGIES else default


def _refusal(asked: str) -> Problem:
    supported = ", ".join(f"'{name}'" for name in sorted(STRATEGIES))
    given = shown(asked, _SHOWN)
    if asked in NOT_HERE:
        reason = f"AIBrix's own gateway has it, this one does not; '{NOT_HERE[asked]}' comes nearest."
    elif "," in asked or ":" in asked:
        reason = "Strategies cannot be combined."
    else:
        return Problem("unknown_strategy", {"given": given, "supported": supported})
    return Problem("unsupported_strategy", {"given": given, "supported": supported, "reason": reason})
