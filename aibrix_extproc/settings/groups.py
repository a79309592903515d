"""All settings: one group for each subject."""

from typing import Final

from pydantic.fields import FieldInfo

from aibrix_extproc.settings.control import ControlSettings
from aibrix_extproc.settings.disaggregation import DisaggregationSettings
from aibrix_extproc.settings.fields import Group
from aibrix_extproc.settings.fleet import FleetSettings, KubernetesSettings, PickerSettings, RoutingSettings
from aibrix_extproc.settings.metadata import MetadataSettings
from aibrix_extproc.settings.operators import AdminSettings, LogSettings
from aibrix_extproc.settings.queue import QueueSettings
from aibrix_extproc.settings.requests import AccessSettings, HealthSettings, LimitSettings, MeteringSettings
from aibrix_extproc.settings.server import ServerSettings
from aibrix_extproc.settings.shared_limits import RateLimitSettings, RedisSettings
from aibrix_extproc.settings.usage import UsageSettings


class Settings(Group):
    """All groups."""

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    fleet: FleetSettings = FleetSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    routing: RoutingSettings = RoutingSettings()
    queue: QueueSettings = QueueSettings()
    disaggregation: DisaggregationSettings = DisaggregationSettings()
    limits: LimitSettings = LimitSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    redis: RedisSettings = RedisSettings()
    health: HealthSettings = HealthSettings()
    picker: PickerSettings = PickerSettings()
    access: AccessSettings = AccessSettings()
    metering: MeteringSettings = MeteringSettings()
    metadata: MetadataSettings = MetadataSettings()
    control: ControlSettings = ControlSettings()
    usage: UsageSettings = UsageSettings()
    log: LogSettings = LogSettings()


GROUPS: Final = tuple(Settings.model_fields)


def fields_of(group: str) -> dict[str, FieldInfo]:
    """The settings of a group by their names; none of a group that does not exist."""
    declared = Settings.model_fields.get(group)
    return declared.annotation.model_fields if declared is not None and declared.annotation is not None else {}


def is_list(field: FieldInfo) -> bool:
    """Whether a setting takes several values."""
    return str(field.annotation).startswith("tuple")


# A setting has three names: `group.field` in a file, a variable, and an option.
ENV_PREFIX: Final = "AIBRIX_EXTPROC_"
ENV_NESTED_DELIMITER: Final = "__"


def variable_name(group: str, name: str) -> str:
    """The environment variable of a setting."""
    return f"{ENV_PREFIX}{group}{ENV_NESTED_DELIMITER}{name}".upper()


def flag_name(group: str, name: str) -> str:
    """The command-line option of a setting."""
    field = fields_of(group).get(name)
    extra = field.json_schema_extra if field is not None else None
    given = extra.get("flag") if isinstance(extra, dict) else None
    return str(given) if given else f"--{group}-{name}".replace("_", "-")
