"""How a gateway reaches the metadata service."""

from pydantic import Field

from aibrix_extproc.settings.fields import Group, Name, flag


class ControlSettings(Group):
    """The metadata service as gateways use it themselves, past Envoy."""

    url: Name | None = Field(
        None,
        description="URL of the metadata service, such as http://127.0.0.1:9010; none means that this gateway works"
        " by its files alone and sends no usage records. Both need the same note keys",
        json_schema_extra=flag("--control-url"),
    )
