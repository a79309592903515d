"""Every setting, declared once: YAML file < environment < flags. The only reader of the environment.

Each group is frozen; unknown keys are errors. A field's description is its documentation: `docs/configuration.md`
and the help texts are made of it. `flag` names a command-line option other than `--<group>-<field>`.
"""

from aibrix_extproc.settings.disaggregation import DisaggregationSettings, PrefillBy
from aibrix_extproc.settings.effective import build, load, sources
from aibrix_extproc.settings.fleet import FleetSettings, KubernetesSettings, PickerSettings, RoutingSettings
from aibrix_extproc.settings.groups import (
    ENV_NESTED_DELIMITER,
    ENV_PREFIX,
    GROUPS,
    Settings,
    flag_name,
    is_list,
    variable_name,
)
from aibrix_extproc.settings.operators import AdminSettings, LogFormat, LogLevel, LogSettings
from aibrix_extproc.settings.queue import QueueSettings
from aibrix_extproc.settings.requests import AccessSettings, HealthSettings, LimitSettings, MeteringSettings
from aibrix_extproc.settings.server import ServerSettings, Tls, Transport
from aibrix_extproc.settings.shared_limits import RateLimitSettings, RedisSettings, WhenAway
from aibrix_extproc.settings.sources import SettingsError, Tree, environment_with, read_environment, read_file

__all__ = [
    "ENV_NESTED_DELIMITER",
    "ENV_PREFIX",
    "GROUPS",
    "AccessSettings",
    "AdminSettings",
    "DisaggregationSettings",
    "FleetSettings",
    "HealthSettings",
    "KubernetesSettings",
    "LimitSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "MeteringSettings",
    "PickerSettings",
    "PrefillBy",
    "QueueSettings",
    "RateLimitSettings",
    "RedisSettings",
    "RoutingSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "Tls",
    "Transport",
    "Tree",
    "WhenAway",
    "build",
    "environment_with",
    "flag_name",
    "is_list",
    "load",
    "read_environment",
    "read_file",
    "sources",
    "variable_name",
]
