"""What would keep a gateway from serving as it is configured, found without serving."""

import asyncio

from aibrix_extproc.adapters.fleetfile.source import check_fleet_file
from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.app.gateway import Gateway
from aibrix_extproc.app.listening import StartError
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.settings import Settings


def start_warnings(settings: Settings) -> list[str]:
    """A sentence each. Ports are not tried, engines, names and the cluster not asked."""
    return asyncio.run(_start_warnings(settings))


async def _start_warnings(settings: Settings) -> list[str]:
    found = []
    try:
        Gateway(settings)  # all of its parts are made, none is started
    except StartError as error:
        found.append(str(error))
    # A gateway starts without these two and waits until they are good.
    try:
        if settings.fleet.file is not None:
            await check_fleet_file(settings.fleet.file)
    except SourceError as error:
        found.append(str(error))
    try:
        if settings.access.key_file is not None:
            read_keys(settings.access.key_file)
    except SourceError as error:
        found.append(str(error))
    return found
