"""AIBrix's config profiles: the JSON in a pod's annotation, read when the pod changes, not for each request.

Names of strategies stay text here; routing decides which of them exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

MAX_CONFIG_BYTES: Final = 64 * 1024
DEFAULT_PROFILE: Final = "default"  # where the configuration does not name another
AUTO: Final = "auto"  # the profile that a client names to have one chosen by the request's size

# What is read -> meaning, for the reference page.
CONFIG_MEMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lockedRoutingStrategy": "the strategy of every request, also of one that names another",
        "defaultProfile": f"the profile that counts where a request names none that there is; `{DEFAULT_PROFILE}` "
        "if this is missing",
        "profiles": "profiles by name",
        "routingStrategy": "of a profile: the strategy, for requests that name none",
        "routingConfig": "of a profile: the bounds below, for which requests `auto` chooses it",
        "promptTokensGte": "the prompt has at least so many tokens",
        "promptTokensLt": "the prompt has fewer tokens",
        "maxTokensGte": "the answer may have at least so many tokens",
        "maxTokensLt": "the answer may have fewer tokens",
    }
)
_OF_CONFIG: Final = frozenset({"lockedRoutingStrategy", "defaultProfile", "profiles"})
_OF_PROFILE: Final = frozenset({"routingStrategy", "routingConfig"})
_OF_HINTS: Final = CONFIG_MEMBERS.keys() - _OF_CONFIG - _OF_PROFILE
_UNBOUNDED: Final = 2**63


class InvalidConfig(ValueError):
    """The text is no configuration; says why."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """For which requests a profile is meant, in tokens; None: without this bound."""

    prompt_from: int | None = None
    prompt_below: int | None = None
    answer_from: int | None = None
    answer_below: int | None = None

    def fit(self, prompt: int | None, answer: int | None) -> bool:
        """Whether a request is of this size; one of unknown size is of none."""
        return _within(prompt, self.prompt_from, self.prompt_below) and _within(
            answer, self.answer_from, self.answer_below
        )

    @property
    def precision(self) -> tuple[int, ...]:
        """More bounds are more precise than fewer, tight ones more than wide ones."""
        bounds = (self.prompt_from, self.prompt_below, self.answer_from, self.answer_below)
        return (
            sum(bound is not None for bound in bounds),
            self.prompt_from or 0,
            -_or_unbounded(self.prompt_below),
            self.answer_from or 0,
            -_or_unbounded(self.answer_below),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A named part of a config: the routing of requests that name it."""

    name: str
    strategy: str = ""  # empty: the gateway's own
    sizes: Sizes | None = None  # None: `auto` never chooses it


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A configuration. Equal texts are equal configurations."""

    text: str
    locked_strategy: str = field(default="", compare=False)  # goes before everything that a client says
    default_profile: str = field(default=DEFAULT_PROFILE, compare=False)
    profiles: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    without_effect: tuple[str, ...] = field(default=(), compare=False)  # members that nothing here reads

    def profile(self, name: str | None) -> Profile | None:
        """The profile of this name; the default one for a name that there is not, as with AIBrix."""
        found = self.profiles.get(name) if name else None
        return found or self.profiles.get(self.default_profile)

    def profile_for(self, prompt: int | None, answer: int | None) -> Profile | None:
        """The profile that `auto` means: the most precise one for a request of this size, or the default one."""
        fitting = [one for one in self.profiles.values() if one.sizes is not None and one.sizes.fit(prompt, answer)]
        return max(fitting, key=_precision) if fitting else self.profile(None)

    @property
    def strategies(self) -> tuple[str, ...]:
        """All strategies that are named, each once."""
        named = (self.locked_strategy, *(one.strategy for one in self.profiles.values()))
        return tuple(dict.fromkeys(name for name in named if name))


class _Config(msgspec.Struct):
    lockedRoutingStrategy: str | None = None  # noqa: N815 (AIBrix's names)
    defaultProfile: str | None = None  # noqa: N815
    profiles: dict[str, msgspec.Raw] | None = None


class _Profile(msgspec.Struct):
    routingStrategy: str | None = None  # noqa: N815
    routingConfig: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815


class _Bounds(msgspec.Struct):
    promptTokensGte: int | None = None  # noqa: N815
    promptTokensLt: int | None = None  # noqa: N815
    maxTokensGte: int | None = None  # noqa: N815
    maxTokensLt: int | None = None  # noqa: N815


_Members = dict[str, msgspec.Raw]


def parse_config(text: str) -> ModelConfig:
    """Read the annotation. Raises InvalidConfig, and nothing else."""
    if len(text.encode("utf-8", "replace")) > MAX_CONFIG_BYTES:
        raise InvalidConfig(f"over {MAX_CONFIG_BYTES} bytes")
    try:
        return _parsed(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidConfig(f"no configuration ({error})") from error


def _parsed(text: str) -> ModelConfig:
    config = msgspec.json.decode(text, type=_Config)
    ignored = sorted(msgspec.json.decode(text, type=_Members).keys() - _OF_CONFIG)
    profiles = {}
    for name, raw in sorted((config.profiles or {}).items()):
        profiles[name], unread = _profile(name, raw)
        ignored += (f"profiles.{name}.{one}" for one in unread)
    return ModelConfig(
        text,
        _strategy(config.lockedRoutingStrategy),
        config.defaultProfile or DEFAULT_PROFILE,
        MappingProxyType(profiles),
        tuple(ignored),
    )


def _profile(name: str, raw: msgspec.Raw) -> tuple[Profile, list[str]]:
    given = msgspec.json.decode(raw, type=_Profile)
    unread = sorted(msgspec.json.decode(raw, type=_Members).keys() - _OF_PROFILE)
    try:
        sizes, unknown = _sizes(given.routingConfig)
    except msgspec.DecodeError:  # the rest of the profile counts all the same
        sizes, unknown = None, ["routingConfig"]
    return Profile(name, _strategy(given.routingStrategy), sizes), unread + unknown


def _sizes(raw: msgspec.Raw) -> tuple[Sizes | None, list[str]]:
    members = msgspec.json.decode(raw, type=_Members | None) or {}
    unread = [f"routingConfig.{one}" for one in sorted(members.keys() - _OF_HINTS)]
    if members.keys().isdisjoint(_OF_HINTS):
        return None, unread
    bounds = msgspec.json.decode(raw, type=_Bounds)
    return Sizes(bounds.promptTokensGte, bounds.promptTokensLt, bounds.maxTokensGte, bounds.maxTokensLt), unread


def _strategy(name: str | None) -> str:
    return (name or "").strip().lower()


def _within(size: int | None, start: int | None, end: int | None) -> bool:
    if start is None and end is None:
        return True
    return size is not None and (start or 0) <= size < _or_unbounded(end)


def _or_unbounded(bound: int | None) -> int:
    return _UNBOUNDED if bound is None else bound


def _precision(profile: Profile) -> tuple[int, ...]:
    return profile.sizes.precision if profile.sizes is not None else ()
