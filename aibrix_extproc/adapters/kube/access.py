"""Finds the access to the cluster: a given kubeconfig, the pod's own service account, or the user's kubeconfig."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from aibrix_extproc.adapters.kube.errors import KubeConfigError
from aibrix_extproc.adapters.kube.package import (
    KUBE_CONFIG_DEFAULT_LOCATION,
    ConfigException,
    Configuration,
    load_incluster_config,
    load_kube_config,
)
from aibrix_extproc.config_files import depth

OWN_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """The source of the access to the cluster: a kubeconfig, or the pod's own service account (None)."""

    kubeconfig: Path | None
    context: str | None
    namespace: str  # the one to use if none is named

    @property
    def described(self) -> str:
        """For messages."""
        return "the pod's service account" if self.kubeconfig is None else str(self.kubeconfig)

    async def load(self) -> Configuration:
        """Read address and credentials; plugins fetch new tokens."""
        configuration = Configuration()
        # With the package's own retries, watches would not see an outage.
        configuration.retries = None
        try:
            if self.kubeconfig is None:
                load_incluster_config(client_configuration=configuration)
            else:
                await load_kube_config(
                    config_file=str(self.kubeconfig),
                    context=self.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise KubeConfigError(f"{self.described} cannot be used: {error}") from error
        return configuration


def find_access(kubeconfig: Path | None, context: str | None) -> ClusterAccess:
    """The access to the cluster. Raises KubeConfigError with what to do."""
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            raise KubeConfigError(f"the kubeconfig {kubeconfig} does not exist; correct --kubeconfig")
        return _by_file(kubeconfig, context)
    try:
        load_incluster_config(client_configuration=Configuration(), try_refresh_token=False)
    except (ConfigException, OSError) as error:
        default = Path(os.path.expanduser(str(KUBE_CONFIG_DEFAULT_LOCATION).split(os.pathsep)[0]))
        if not default.is_file():
            raise KubeConfigError(
                f"no way to a Kubernetes cluster: this is no pod with a service account ({error}), and there is no"
                f" kubeconfig at {default}; name one by --kubeconfig"
            ) from error
        return _by_file(default, context)
    return ClusterAccess(None, None, _own_namespace())


def _by_file(kubeconfig: Path, context: str | None) -> ClusterAccess:
    return ClusterAccess(kubeconfig, context, _namespace_of(kubeconfig, context))


def _namespace_of(kubeconfig: Path, context: str | None) -> str:
    """The namespace of a context; raises for everything that is wrong with the file, before anything runs."""
    try:
        content = depth.load(kubeconfig.read_text(encoding="utf-8"), depth.MAX_FOREIGN_DEPTH)
        wanted = context or content["current-context"]
        contexts = {one["name"]: one["context"] for one in content["contexts"]}
        clusters = {one["name"] for one in content["clusters"]}
    except OSError as error:
        raise KubeConfigError(f"the kubeconfig {kubeconfig} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise KubeConfigError(f"{kubeconfig} is no kubeconfig: {error!r}") from error
    if wanted not in contexts:
        raise KubeConfigError(f"{kubeconfig} has no context {wanted!r}; it has {', '.join(sorted(contexts)) or 'none'}")
    if contexts[wanted].get("cluster") not in clusters:
        raise KubeConfigError(f"{kubeconfig}: the context {wanted!r} names a cluster that is not in the file")
    return contexts[wanted].get("namespace") or DEFAULT_NAMESPACE


def _own_namespace() -> str:
    try:
        return OWN_NAMESPACE_FILE.read_text(encoding="utf-8").strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE
