"""Settings of the admin server and of the log."""

from enum import StrEnum

from pydantic import Field

from aibrix_extproc.settings.fields import Group, Port, flag


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least important line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AdminSettings(Group):
    """The HTTP listener for operators: metrics, health and the fleet. Never reachable through Envoy."""

    host: str = Field("127.0.0.1", description="address to listen on", json_schema_extra=flag("--admin-host"))
    port: Port = Field(9003, description="port of the admin server", json_schema_extra=flag("--admin-port"))
    explorer_origin: str = Field(
        "", pattern=r"^(https?://[^/\s;,'\"]+)?$",
        description="address of the gateway for browsers, such as `https://api.example.com`: `/explorer` is then a "
        "page that shows the API and calls it; empty: there is none",
        json_schema_extra=flag("--admin-explorer-origin"),
    )  # fmt: skip


class LogSettings(Group):
    """What is written to standard error. Prompts and keys never are."""

    level: LogLevel = Field(
        LogLevel.INFO, description="least important line written", json_schema_extra=flag("--log-level")
    )
    format: LogFormat = Field(LogFormat.JSON, description="one JSON object a line, or text for people",
                              json_schema_extra=flag("--log-format"))  # fmt: skip
    exchanges: bool = Field(
        False, description="a line for every exchange, not only for those that failed",
        json_schema_extra=flag("--log-exchanges"),
    )  # fmt: skip
    prefixes: bool = Field(
        False, description="a line with the prefix of each placed prompt, for `replay`: keyed ids and lengths, no text."
        " Who reads the log sees which prompts begin alike",
        json_schema_extra=flag("--log-prefixes"),
    )  # fmt: skip
