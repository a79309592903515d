"""What can go wrong with a Kubernetes API, in the words of an operator."""

from aibrix_extproc.config_files.errors import SourceError


class KubeConfigError(SourceError):
    """It is not known how to reach a cluster: no kubeconfig, a broken one, no service account."""


class KubeUnreachable(SourceError):
    """No answer, or half of one: the network, TLS, or nobody is there."""

    transient = True


class KubeApiError(SourceError):
    """The API server has refused. `retry_seconds`: how long it asks us to wait."""

    transient = True

    def __init__(self, status: int, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_seconds = retry_seconds


class VersionGone(KubeApiError):
    """410: what was to be continued is not kept any more; list again."""

    def __init__(self, message: str) -> None:
        super().__init__(410, message)
