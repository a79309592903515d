"""Leadership by a Lease of the cluster: of all replicas one leads, for whatever must be done by one at a time.

Imported only where it is wanted: the client library is an extra.
"""

import uuid

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.lease import Election
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.settings import KubernetesSettings


class Leadership(Part):
    """A candidate in the election. Raises SourceError if no access to the cluster is found."""

    name = "leadership"
    ends_before_drain = True

    def __init__(self, settings: KubernetesSettings, host: str) -> None:
        access = find_access(settings.kubeconfig, settings.context)
        self._api = KubeApi(access)
        self.election = Election(self._api, access.namespace, settings.lease_name, f"{host}_{uuid.uuid4()}")

    async def run(self) -> None:
        """Take part until cancelled, then give the lease back."""
        async with self._api:
            await self.election.run()
