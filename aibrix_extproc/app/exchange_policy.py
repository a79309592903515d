"""The settings that every exchange obeys, as one value."""

from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.settings import Settings


def exchange_policy(settings: Settings) -> ExchangePolicy:
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
        is_picker=settings.picker.assume_duplex,
    )
