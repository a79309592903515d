"""Usage records: how gateways keep them until they are sent, and how long the metadata service keeps them."""

from pathlib import Path

from pydantic import Field

from aibrix_extproc.settings.fields import MIB, Group, flag


class UsageSettings(Group):
    """Usage records. Gateways with metering and `control.url` send one for each exchange to the metadata service."""

    buffer_bytes: int = Field(
        32 * MIB, ge=64 * 1024, le=1024 * MIB,
        description="records that wait while the metadata service is away, about 200 bytes each: 32 MiB are ten minutes"
        " at 250 requests a second. Further ones are lost, and counted",
    )  # fmt: skip
    spool_dir: Path | None = Field(
        None,
        description="folder for the records that wait, a file for each process: they survive a killed gateway, and the"
        " next one sends them. Without it they are in memory",
        json_schema_extra=flag("--usage-spool"),
    )
    currency: str = Field(
        "usd", pattern="^[a-z]{3}$", description="currency of the prices of models, in lower case; shown with costs"
    )
    keep_records_days: int = Field(30, ge=1, le=3650, description="how long each record is kept")
    keep_hours_days: int = Field(90, ge=1, le=3650, description="how long the sums by the hour are kept")
    keep_days_days: int = Field(1100, ge=1, le=36_500, description="how long the sums by the day are kept")
