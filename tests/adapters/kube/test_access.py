"""Ways to a cluster that are not there, each with what to do."""

from pathlib import Path

import pytest

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.errors import KubeConfigError

WHOLE = """
apiVersion: v1
kind: Config
current-context: a
contexts:
- {name: a, context: {cluster: c, user: u, namespace: llm}}
- {name: b, context: {cluster: c, user: u}}
- {name: lost, context: {cluster: none, user: u}}
clusters:
- {name: c, cluster: {server: "http://127.0.0.1:1"}}
users:
- {name: u, user: {token: secret-token}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("context", "namespace"), [(None, "llm"), ("a", "llm"), ("b", "default")])
def test_namespace_is_that_of_the_context(tmp_path: Path, context: str | None, namespace: str) -> None:
    assert find_access(written(tmp_path, WHOLE), context).namespace == namespace


def test_kubeconfig_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match=r"nowhere does not exist; correct --kubeconfig"):
        find_access(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "current-context: a", "\x00", "a: b: c", "[" * 9_999],
    ids=["empty", "list", "cut", "no-contexts", "binary", "no-yaml", "deep"],
)  # fmt: skip
def test_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(KubeConfigError, match="kubeconfig"):
        find_access(written(tmp_path, text), None)


def test_context_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match=r"no context 'x'; it has a, b, lost"):
        find_access(written(tmp_path, WHOLE), "x")


def test_context_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match="names a cluster that is not in the file"):
        find_access(written(tmp_path, WHOLE), "lost")


async def test_configuration_has_the_address_and_the_token(tmp_path: Path) -> None:
    configuration = await find_access(written(tmp_path, WHOLE), None).load()
    assert configuration.host == "http://127.0.0.1:1"
    assert "secret-token" in str(await configuration.auth_settings())


async def test_kubeconfig_that_breaks_later_is_an_error_to_go_on_from(tmp_path: Path) -> None:
    access = find_access(written(tmp_path, WHOLE), None)
    written(tmp_path, "{}")
    with pytest.raises(KubeConfigError, match="cannot be used"):
        await access.load()
