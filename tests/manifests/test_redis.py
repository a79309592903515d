"""The component `redis`: processors find the server and its password, and the server starts as it is told to."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.architecture.sources import ROOT
from tests.charts.helm import kustomized_with
from tests.manifests.built import Thing, built, of_kind, only
from tests.manifests.test_processor import ours, settings_of
from tests.redis_server import RedisServer, binary
from tests.waiting import eventually

pytestmark = pytest.mark.slow  # each build takes kubectl half a second

NAME = "aibrix-extproc-redis"
BUILDS = ("components/redis", "overlays/production")
FOLDER = "/etc/aibrix-extproc/redis"


def pod_of(build: str, name: str) -> Thing:
    pod: Thing = only(built(build), "Deployment", name)["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("build", BUILDS)
def test_processors_are_told_the_service_and_share_its_secret(build: str) -> None:
    (settings,) = [settings_of(one).redis for one in ours(build) if one["args"][0] == "serve"]
    (port,) = only(built(build), "Service", NAME)["spec"]["ports"]
    url = urlsplit(settings.url)
    assert (url.hostname, url.port, url.password) == (NAME, port["port"], None)
    assert settings.password_file == Path(FOLDER, "password")
    for name in ("aibrix-extproc", NAME):
        pod = pod_of(build, name)
        (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["mountPath"] == FOLDER]
        (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
        assert (volume["secret"]["secretName"], mount["readOnly"]) == (NAME, True)


@pytest.mark.parametrize("build", BUILDS)
def test_processors_alone_reach_it_and_it_reaches_nobody(build: str) -> None:
    policy = only(built(build), "NetworkPolicy", NAME)["spec"]
    (rule,) = policy["ingress"]
    (processors,) = of_kind(built(build), "HorizontalPodAutoscaler")
    target = only(built(build), "Deployment", processors["spec"]["scaleTargetRef"]["name"])
    assert rule["from"] == [{"podSelector": target["spec"]["selector"]}]
    assert (set(policy["policyTypes"]), policy["egress"]) == ({"Ingress", "Egress"}, [])


def test_there_is_one_at_a_time() -> None:
    spec = only(built("components/redis"), "Deployment", NAME)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_server_starts_by_its_command_and_wants_the_password(tmp_path: Path) -> None:
    """With the Redis of the tests under the name of Valkey."""
    (tmp_path / "valkey-server").symlink_to(binary())
    (tmp_path / "password").write_text("only-for-tests\n", encoding="utf-8")
    (container,) = pod_of("components/redis", NAME)["containers"]
    server = RedisServer(tmp_path)
    command = [word.replace(FOLDER, str(tmp_path)) for word in container["command"]]
    process = subprocess.Popen(
        [*command, *container["args"], "--port", str(server.port), "--bind", "127.0.0.1"],
        cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},  # noqa: TID251
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: server.ask("PING").startswith(b"-NOAUTH"), "it wants a password")
        assert server.ask("AUTH", "only-for-tests") == b"+OK\r\n"
        assert b"only-for-tests" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert process.wait(30) == 0, "the shell has become the server, which gets the signal"
    assert {path.name for path in tmp_path.iterdir()} == {"valkey-server", "password"}, "nothing is kept"


def test_memory_of_the_server_has_room_above_its_own_limit() -> None:
    (container,) = pod_of("components/redis", NAME)["containers"]
    options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert (options["--maxmemory-policy"], options["--save"], options["--appendonly"]) == ("noeviction", "", "no")
    own, limit = int(options["--maxmemory"].removesuffix("mb")), int(container["resources"]["limits"]["memory"][:-2])
    assert own * 1.25 <= limit


def test_patches_of_the_docs_switch_tls_on() -> None:
    page = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(patches:.*?)^```", page, re.MULTILINE | re.DOTALL)
    things = kustomized_with(resources=["manifests/base"], components=["manifests/components/redis"],
                             patches=yaml.safe_load(block)["patches"])  # fmt: skip
    (processor,) = only(things, "Deployment", "aibrix-extproc")["spec"]["template"]["spec"]["containers"]
    (server,) = only(things, "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    settings, options = settings_of(processor).redis, server["args"]
    told = dict(zip(options[::2], options[1::2], strict=True))
    (folder,) = [one["mountPath"] for one in server["volumeMounts"] if one["name"] == "redis-tls"]
    assert settings.url == f"rediss://{NAME}:6379/0"
    assert settings.ca_file == Path(folder, "ca.crt")
    assert (told["--tls-port"], told["--port"]) == ("6379", "0")
    assert (told["--tls-cert-file"], told["--tls-key-file"]) == (f"{folder}/tls.crt", f"{folder}/tls.key")
