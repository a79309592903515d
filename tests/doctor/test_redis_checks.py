"""What can be broken between processors and the Redis that they share is found."""

import pytest

from aibrix_extproc.doctor.finding import Severity
from tests.doctor.test_doctor import GONE, manifests, put
from tests.doctor.test_metadata_checks import Objects, bad, of, shipped, told

pytestmark = pytest.mark.slow  # each build takes kubectl half a second

COMPONENT, REDIS = "components/redis", "aibrix-extproc-redis"
E, W = Severity.ERROR, Severity.WARNING


def found(objects: Objects) -> list[tuple[str, Severity]]:
    return [(one.check, one.severity) for one in bad(objects) if one.check in ("shared_limits", "redis_there")]


def test_doctor_finds_nothing_in_the_shipped_component() -> None:
    assert found(shipped(COMPONENT)) == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Service", REDIS, "metadata.name", "other"),
        ("Service", REDIS, "spec.ports.0.port", 6380),
        ("Deployment", "aibrix-extproc", "spec.template.spec.containers.0.volumeMounts", GONE),
    ],
)
def test_redis_that_is_not_there_is_found(kind: str, name: str, path: str, value: object) -> None:
    objects = shipped(COMPONENT)
    put(of(objects, kind, name), path, value)
    assert found(objects) == [("redis_there", E)]


@pytest.mark.parametrize("url", ["rediss://cache.example.com:6379/0", "redis://10.0.0.7/0", "unix:///run/redis.sock"])
def test_redis_outside_of_the_cluster_is_not_looked_for(url: str) -> None:
    objects = shipped(COMPONENT)
    told(of(objects, "Deployment", "aibrix-extproc"), "REDIS__URL", url)
    assert found(objects) == []


@pytest.mark.parametrize(("replicas", "findings"), [(None, [("shared_limits", W)]), ("2", [])])
def test_limits_of_several_processors_without_redis_are_found(
    replicas: str | None, findings: list[tuple[str, Severity]]
) -> None:
    objects = manifests()
    processor = of(objects, "Deployment", "aibrix-extproc")
    told(processor, "RATE_LIMITS__FILE", "/limits.yaml")
    told(processor, "RATE_LIMITS__REPLICAS", replicas)
    assert found(objects) == findings
