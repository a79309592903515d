"""The settings that every exchange obeys, as one value."""

from collections.abc import Callable

from aibrix_extproc.core.exchange.policy import WAIT_SHARE, ExchangePolicy, no_prefix
from aibrix_extproc.settings import ServerSettings, Settings


def exchange_policy(settings: Settings, prefix_seed: Callable[[], int] = no_prefix) -> ExchangePolicy:
    """The policy of a gateway."""
    return ExchangePolicy(
        max_body_bytes=settings.limits.max_body_bytes,
        max_audio_bytes=settings.limits.max_audio_bytes,
        media_hosts=settings.limits.media_hosts,
        metering=settings.metering.enabled,
        metadata=settings.metadata.enabled,
        max_wait_seconds=settings.limits.max_wait_seconds,
        health_path=settings.health.path,
        destinations=settings.routing.destinations,
        message_seconds=settings.server.message_timeout_seconds,
        longest_message_seconds=settings.server.max_message_timeout_seconds,
        is_picker=settings.picker.assume_duplex,
        prefix_seed=prefix_seed,
        names_sessions=settings.routing.kv_events,
        tells_priority=settings.queue.engine_priorities,
    )


def longest_wait_seconds(server: ServerSettings) -> float:
    """How long an answer may be waited for: a share of the time that Envoy waits for us, if asked to."""
    return WAIT_SHARE * max(server.message_timeout_seconds, server.max_message_timeout_seconds)
