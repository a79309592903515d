"""Settings that are good one by one and mean nothing together.

Looked at when a gateway is made and not when settings are read: `picker` has other defaults, and `health` beside it,
which reads the same environment, has not.
"""

from aibrix_extproc.app.listening import StartError
from aibrix_extproc.settings import Settings


def refuse_conflicts(settings: Settings) -> None:
    """StartError if a setting would be ignored, or two listeners want one port."""
    kubernetes = settings.kubernetes
    needing = [] if kubernetes.enabled else ["inference_pool", "slice_selector", "namespaces"]
    if not (kubernetes.enabled or kubernetes.publish_service):
        needing += ["kubeconfig", "context"]
    idle = [name for name in needing if getattr(kubernetes, name)]
    if idle:
        raise StartError(f"kubernetes.{idle[0]} is not used without kubernetes.enabled: true (--kubernetes)")
    if settings.routing.share:
        for name, given in (("redis.url", settings.redis.url), ("metering.note_keys", settings.metering.note_keys)):
            if not given:
                raise StartError(f"routing.share: true (--share-placements) needs {name}")
    _refuse_shared_ports(settings)


def _refuse_shared_ports(settings: Settings) -> None:
    server, admin = settings.server, settings.admin
    taken: dict[tuple[str, int | None], str] = {}
    for name, host, port in (
        ("server.port", server.host, server.port),
        ("server.health_port", server.host, server.health_port),
        ("admin.port", admin.host, admin.port),
    ):
        if port and taken.setdefault((host, port), name) != name:  # 0 is any free one
            raise StartError(f"{taken[host, port]} and {name} are both {port}; change one of them")
