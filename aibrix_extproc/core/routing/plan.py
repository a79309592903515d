"""What a client asks for and what the model's configuration says, to how its request is placed."""

from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.modelconfig import AUTO, ModelConfig, Profile
from aibrix_extproc.core.fleet.selector import InvalidSelector, Selector, parse_selector, selected
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import CHOSEN_PROFILE, SESSION_ID
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.placing import RoutingHeaders
from aibrix_extproc.core.routing.mix import InvalidMix, Mix, parse_mix
from aibrix_extproc.core.routing.record import Reason
from aibrix_extproc.core.routing.registry import NOT_HERE, STRATEGIES
from aibrix_extproc.core.routing.signals import Need

_NONE: Final = RoutingHeaders()
_SHOWN: Final = 64  # characters of a client's value in an answer


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Strategies that there are, which endpoints it may pick from, and what the client is told with its answer."""

    mix: Mix
    selector: Selector = ()
    session: str = ""
    answer_headers: tuple[tuple[str, str], ...] = ()
    reason: Reason = Reason.SETTING  # who named the mix

    def allowed(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The endpoints that the selector leaves."""
        return selected(self.selector, endpoints)


def plan_of(headers: RoutingHeaders | None, config: ModelConfig | None, default: Mix, draw: float) -> Plan | Problem:
    """How to place a request. A locked strategy goes before the client's, that before the profile's, then `default`."""
    headers = headers or _NONE
    profile, answer_headers = _profile(headers, config)
    named = _mix(headers, config, profile)
    if isinstance(named, Problem):
        return named
    mix, reason = named or (default, Reason.SETTING)
    selector: Selector = ()
    if headers.external_filter:
        try:
            selector = parse_selector(headers.external_filter)
        except InvalidSelector as error:
            return Problem("invalid_external_filter", {"reason": str(error)})
    if Need.SESSION not in mix.needs:
        return Plan(mix, selector, answer_headers=answer_headers, reason=reason)
    # 53 bits of chance: two sessions with one id would only share an endpoint.
    session = headers.session or f"{int(draw * 2**53):014x}"
    return Plan(mix, selector, session, (*answer_headers, (SESSION_ID, session)), reason)


def unknown_strategies(config: ModelConfig) -> tuple[str, ...]:
    """Strategies that a configuration names and that are not here; the gateway's own is used for them."""
    return tuple(name for name in config.strategies if _known(name) is None)


def _profile(headers: RoutingHeaders, config: ModelConfig | None) -> tuple[Profile | None, tuple[tuple[str, str], ...]]:
    if config is None:
        return None, ()
    name = (headers.profile or "").strip()
    if name.lower() != AUTO:
        return config.profile(name), ()
    chosen = config.profile_for(headers.prompt_tokens, headers.max_tokens)
    return chosen, () if chosen is None else ((CHOSEN_PROFILE, chosen.name),)


def _mix(
    headers: RoutingHeaders, config: ModelConfig | None, profile: Profile | None
) -> tuple[Mix, Reason] | Problem | None:
    """The mix that somebody names, and who; None if nobody does, or it cannot be had."""
    if config is not None and config.locked_strategy:
        locked = _known(config.locked_strategy)
        return None if locked is None else (locked, Reason.LOCKED)
    asked = (headers.strategy or "").strip()
    if asked:
        try:
            return parse_mix(asked), Reason.HEADER
        except InvalidMix as error:
            return _refusal(asked.lower(), error)
    named = None if profile is None or not profile.strategy else _known(profile.strategy)
    return None if named is None else (named, Reason.PROFILE)


def _known(text: str) -> Mix | None:
    """The mix that a configuration names; None if it cannot be had."""
    try:
        return parse_mix(text)
    except InvalidMix:
        return None


def _refusal(asked: str, error: InvalidMix) -> Problem:
    supported = ", ".join(f"'{name}'" for name in sorted(STRATEGIES))
    given = shown(asked, _SHOWN)
    if error.names == (asked,) and asked not in NOT_HERE:
        return Problem("unknown_strategy", {"given": given, "supported": supported})
    return Problem("unsupported_strategy", {"given": given, "supported": supported, "reason": str(error)})
