"""The building blocks of settings: types of values, and the base of a group."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import unknown_url
from aibrix_extproc.core.openai.contract.paths import normalise


def _not_of_the_api(path: str) -> str:
    """A path that no operation has, whatever its method: unknown to the router, so never an engine's."""
    if path and (normalise(path) != path or ROUTER.match("GET", path) != unknown_url("GET", path)):
        raise ValueError("is a path of the API or of engines")
    return path


MIB: Final = 1024 * 1024
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
ApiKey = Annotated[SecretStr, Field(min_length=1, max_length=512)]  # longer ones are refused unread
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_LABEL: Final = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
ServiceName = Annotated[str, StringConstraints(pattern=f"^{_LABEL}$", max_length=63)]
PortName = Annotated[str, StringConstraints(pattern=f"^({_LABEL})?$", max_length=63)]
MediaHost = Annotated[str, StringConstraints(pattern=r"^(\*|(\*\.)?[a-z0-9.-]+|\[[0-9a-f:.]+\])$", max_length=253)]
HealthPath = Annotated[
    str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~/-]{1,127})?$"), AfterValidator(_not_of_the_api)
]


def flag(name: str) -> dict[str, Any]:
    """The command-line option of a field."""
    return {"flag": name}


class Group(BaseModel):
    """A group of settings: frozen, unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
