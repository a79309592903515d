"""Errors of a Kubernetes API, with messages for operators."""

from aibrix_extproc.config_files.errors import SourceError


class KubeConfigError(SourceError):
    """There is no way to reach a cluster: no kubeconfig, a broken one, no service account."""


class KubeUnreachable(SourceError):
    """No answer, or half of one: the network, TLS, or no server."""

    transient = True


class KubeApiError(SourceError):
    """The API server has refused. `retry_seconds`: the time that it wants us to wait."""

    transient = True

    def __init__(self, status: int, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_seconds = retry_seconds


class VersionGone(KubeApiError):
    """410: the server has dropped the version; list again."""

    def __init__(self, message: str) -> None:
        super().__init__(410, message)
