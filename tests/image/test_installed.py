"""What the image holds, put together by the Dockerfile's own lines on this machine's Python: it serves, bare."""

import json
import os
import shlex
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from tests.image import dockerfile, locks
from tests.image.dockerfile import Rehearsal
from tests.waiting import eventually

_, STAGES = dockerfile.read(dockerfile.DOCKERFILE.read_text(encoding="utf-8"))
SERVE = dockerfile.whole(STAGES, "serve")
OTHER_EXTRAS = ["betterproto2", "envoy_data_plane", "openai"]
OF_THE_IMAGE = ["alembic", "kubernetes", "multipart", "obstore", "sqlalchemy", "zmq"]
# Imports every module and names the packages that were missed.
IMPORT_ALL = """
import importlib, pkgutil, aibrix_extproc
missed = set()
for found in pkgutil.walk_packages(aibrix_extproc.__path__, "aibrix_extproc."):
    if not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            missed.add(error.name.partition(".")[0])
print(*sorted(missed))
"""


@pytest.mark.install
def test_image_that_the_dockerfile_describes_serves_with_and_without_the_kubernetes_extra(tmp_path: Path) -> None:
    image = Rehearsal(tmp_path)
    image.follow(STAGES["build"])
    image.follow(SERVE)
    (wheel,) = tmp_path.glob("dist/*.whl")
    assert {entry.date_time for entry in zipfile.ZipFile(wheel).infolist()} == {(2020, 1, 1, 0, 0, 0)}
    assert _installed(image) == {locks.OURSELVES, *locks.read(locks.RUNTIME)}
    before = _files(image)

    assert _pip(image, "check") == "No broken requirements found.\n"
    assert image.run(["aibrix-extproc", "--version"]).startswith("aibrix-extproc ")
    assert image.run(["python", "-c", IMPORT_ALL]).split() == OTHER_EXTRAS
    assert "no-such" in image.run(["aibrix-extproc", "serve", "--kubernetes", "--kubeconfig", "no-such"], code=2)
    _serves(image)
    assert _files(image) == before, "it wrote into its own files, which will be read-only"

    pins = locks.read(locks.RUNTIME)
    extra = set(pins) - locks.closure(pins, set(locks.declared(locks.PROJECT["project"]["dependencies"])))
    _pip(image, "uninstall", "--yes", "--quiet", *extra)
    assert _pip(image, "check") == "No broken requirements found.\n"
    assert image.run(["python", "-c", IMPORT_ALL]).split() == sorted([*OTHER_EXTRAS, *OF_THE_IMAGE])
    assert "pip install -e '.[kubernetes]'" in image.run(["aibrix-extproc", "serve", "--kubernetes"], code=2)
    _serves(image)


def _serves(image: Rehearsal) -> None:
    """It starts as the image starts it, becomes ready, says so to the health check, and stops in order."""
    fleet, log = image.root / "fleet.yaml", image.root / "serve.log"
    fleet.write_text(yaml.safe_dump({"endpoints": [{"address": "127.0.0.1:1", "models": ["m"]}]}))
    settings = {"SERVER__PORT": "0", "ADMIN__PORT": "0", "SERVER__DRAIN_NOTICE_SECONDS": "0", "FLEET__FILE": str(fleet)}
    variables = {f"AIBRIX_EXTPROC_{name}": value for name, value in settings.items()}
    command = image.command([*SERVE.last("ENTRYPOINT").words, *SERVE.last("CMD").words], **variables)
    with log.open("wb") as output:
        serving = subprocess.Popen(command, cwd=image.root, stderr=output)
    try:
        line = str(eventually(lambda: _line(log, "listening"), "it listens"))
        port = json.loads(line)["admin"].rpartition(":")[2]
        eventually(lambda: _line(log, "fleet known"), "it knows its fleet")
        check = shlex.join(json.loads(SERVE.last("HEALTHCHECK").value.partition("CMD ")[2]))
        assert image.run(["sh", "-c", check], AIBRIX_EXTPROC_ADMIN__PORT=port) == "ready\n"
        os.kill(serving.pid, signal.SIGTERM)
        assert serving.wait(60) == 0, log.read_text()
        assert "not ready" in image.run(["sh", "-c", check], code=1, AIBRIX_EXTPROC_ADMIN__PORT=port)
    finally:
        serving.kill()
        serving.wait()


def _line(log: Path, mark: str) -> str | None:
    return next((line for line in log.read_text().splitlines() if mark in line), None)


def _installed(image: Rehearsal) -> set[str]:
    listed = json.loads(_pip(image, "list", "--format", "json"))
    return {canonicalize_name(one["name"]) for one in listed}


def _pip(image: Rehearsal, *words: str) -> str:
    outside = str(image.root / "python" / "bin" / "python")
    return image.run([outside, "-m", "pip", "--python", image.placed("/opt/aibrix-extproc/bin/python"), *words])


def _files(image: Rehearsal) -> dict[str, int]:
    found = Path(image.placed("/opt/aibrix-extproc")).rglob("*")
    return {str(path): path.lstat().st_mtime_ns for path in found}
