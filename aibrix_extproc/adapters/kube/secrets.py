"""Makes a Secret that is not there yet. Needs the right to `create` alone: nothing is read, changed or removed."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError
from aibrix_extproc.adapters.kube.resources import SECRETS
from aibrix_extproc.config_files.errors import SourceError

SECRET_VERBS: Final = ("create",)
_EXISTS: Final = 409
_FORBIDDEN: Final = 403


async def create_secret(api: KubeApi, namespace: str, name: str, content: Mapping[str, str]) -> bool:
    """Whether it was made; False: there is one of that name already, which stays as it is.

    Raises SourceError where the API server cannot be reached or refuses.
    """
    secret = {
        "apiVersion": "v1",
        "kind": SECRETS.name,
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": dict(content),
    }
    try:
        await api.write("POST", SECRETS.path(namespace), secret)
    except KubeApiError as error:
        if error.status == _EXISTS:
            return False
        if error.status == _FORBIDDEN:
            raise SourceError(f"{error}; {SECRETS.rule(namespace, SECRET_VERBS)}") from error
        raise
    return True
