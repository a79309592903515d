"""The variables that OpenAI's SDKs read, for commands of ours that are their users."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SdkEnvironment:
    """Values of the SDK's variables; None for one that is not set."""

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)


def sdk_environment() -> SdkEnvironment:
    """OPENAI_BASE_URL and OPENAI_API_KEY."""
    found = os.environ  # noqa: TID251 (the settings read the environment)
    return SdkEnvironment(found.get("OPENAI_BASE_URL") or None, found.get("OPENAI_API_KEY") or None)
