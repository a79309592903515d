"""The Dockerfile keeps the rules that the image's safety stands on; hadolint, in `make lint`, looks at its form."""

import re
import shlex

import pytest

from aibrix_extproc.cli.main import COMMANDS
from aibrix_extproc.settings import ServerSettings, Settings, read_environment
from aibrix_extproc.settings.metadata import MetadataSettings
from tests.architecture.sources import ROOT
from tests.image import dockerfile
from tests.image.dockerfile import Stage

TEXT = dockerfile.DOCKERFILE.read_text(encoding="utf-8")
BEFORE, STAGES = dockerfile.read(TEXT)
TARGETS = ("serve", "picker")
each_target = pytest.mark.parametrize("target", [dockerfile.whole(STAGES, name) for name in TARGETS], ids=TARGETS)
# What an image that was put together here may be made of.
IGNORED = {line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}


def sources(stage: Stage) -> list[str]:
    """What a stage copies from the repository."""
    return [word for one in stage.all("COPY") if "--from" not in one.value for word in one.words[:-1]]


def test_image_that_is_built_without_a_target_serves() -> None:
    assert list(STAGES)[-1] == "serve"


def test_all_stages_stand_on_one_python_that_a_release_can_name_by_digest() -> None:
    assert [one.word for one in BEFORE] == ["ARG"]
    name, _, image = BEFORE[0].value.partition("=")
    assert {stage.base for stage in STAGES.values()} - set(STAGES) == {f"${{{name}}}"}
    assert re.fullmatch(r"python:3\.\d+-slim(@sha256:[0-9a-f]{64})?", image), "a tag that says which Python"


@each_target
def test_image_runs_as_a_number_that_is_not_root(target: Stage) -> None:
    assert target.last("USER").value == "65532:65532"
    assert target.variables("ENV")["HOME"] == "/", "no passwd file names this user; without a home the client fails"


@each_target
def test_image_is_put_together_without_running_anything_as_root(target: Stage) -> None:
    """So nothing of another architecture runs either, and no layer but the copied one holds files."""
    assert target.all("RUN") == []
    assert len(target.all("COPY")) == 1


@each_target
def test_image_needs_no_shell(target: Stage) -> None:
    for word in ("ENTRYPOINT", "CMD"):
        assert all(one.is_exec_form for one in target.all(word)), word
    assert target.all("ENTRYPOINT")
    for one in target.all("HEALTHCHECK"):
        assert re.search(r" CMD \[", one.value)


def test_entry_points_and_health_check_are_commands_of_ours() -> None:
    commands = {command.name for command in COMMANDS}
    serve = dockerfile.whole(STAGES, "serve")
    check = serve.last("HEALTHCHECK").value.partition("CMD ")[2]
    assert serve.last("ENTRYPOINT").words == ["aibrix-extproc"]
    assert serve.last("CMD").words[0] in commands
    assert dockerfile.Instruction("CMD", check).words[:2] == ["aibrix-extproc", "health"]
    assert STAGES["picker"].last("ENTRYPOINT").words == ["aibrix-extproc", "picker"]


def test_exposed_ports_are_the_defaults_of_the_settings() -> None:
    settings = Settings()
    both = [str(settings.server.port), str(settings.admin.port)]
    assert dockerfile.whole(STAGES, "picker").last("EXPOSE").words == both
    assert dockerfile.whole(STAGES, "serve").last("EXPOSE").words == [*both, str(settings.metadata.port)]


@each_target
def test_image_listens_where_the_pod_can_be_reached(target: Stage) -> None:
    tree = read_environment(target.variables("ENV"))
    everywhere = {"host": "0.0.0.0"}
    assert tree == {"server": everywhere, "admin": everywhere, "metadata": everywhere}
    assert ServerSettings().host == MetadataSettings().host == "127.0.0.1", "then the image need not say it"


@each_target
def test_labels_name_the_image_as_the_open_container_initiative_does(target: Stage) -> None:
    labels = target.variables("LABEL")
    assert {name.removeprefix("org.opencontainers.image.") for name in labels} == {
        "title", "description", "licenses", "version", "revision",
    }  # fmt: skip
    assert set(target.variables("ARG")) == {"VERSION", "REVISION"}


def test_what_is_installed_is_locked_by_hash_or_built_here() -> None:
    commands = [line for stage in STAGES.values() for one in stage.all("RUN") for line in one.value.split("&&")]
    installs = [line for line in commands if " -m pip " in line]
    assert len(installs) == 4
    for line in installs:
        assert "--no-deps" in shlex.split(line)
        assert ("--require-hashes" in line and ".lock" in line) or "--no-index" in line, line


def test_nothing_is_fetched_but_by_pip() -> None:
    assert not any(stage.all("ADD") for stage in STAGES.values())
    assert not re.search(r"\b(curl|wget|git|apt-get)\b", "\n".join(one.value for one in dockerfile.instructions(TEXT)))


def test_what_is_copied_exists_and_the_build_may_see_nothing_else() -> None:
    copied = {source for stage in STAGES.values() for source in sources(stage)}
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert copied == IGNORED
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_no_secret_is_asked_for_or_kept() -> None:
    names = {name for stage in STAGES.values() for word in ("ARG", "ENV") for name in stage.variables(word)}
    assert [name for name in names if re.search(r"KEY|TOKEN|SECRET|PASSWORD", name)] == []
