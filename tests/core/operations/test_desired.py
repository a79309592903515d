"""Records of desired adapters are read strictly."""

from typing import Any

import pytest

from aibrix_extproc.core.openai.contract.errors import Problem, error_object
from aibrix_extproc.core.operations.desired import DesiredAdapter, read_adapter

GOOD: dict[str, Any] = {"path": "/adapters/sql", "base": "llama"}


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        pytest.param("", GOOD, "name", id="no-name"),
        pytest.param(" sql", GOOD, "name", id="space"),
        pytest.param("a\nb", GOOD, "name", id="line-break"),
        pytest.param("n" * 257, GOOD, "name", id="long-name"),
        pytest.param("llama", GOOD, "name", id="name-of-the-base"),
        pytest.param("sql", GOOD | {"name": "other"}, "name", id="another-name"),
        pytest.param("sql", {"base": "llama"}, "path", id="no-path"),
        pytest.param("sql", GOOD | {"path": 1}, "path", id="path-type"),
        pytest.param("sql", GOOD | {"path": "/adapters/../etc"}, "path", id="dots"),
        pytest.param("sql", GOOD | {"path": ".."}, "path", id="only-dots"),
        pytest.param("sql", GOOD | {"path": "/a/./b"}, "path", id="dot"),
        pytest.param("sql", GOOD | {"path": "..\\etc"}, "path", id="backslash"),
        pytest.param("sql", GOOD | {"path": "~/sql"}, "path", id="home"),
        pytest.param("sql", GOOD | {"path": "--flag"}, "path", id="flag"),
        pytest.param("sql", GOOD | {"path": "/a\0b"}, "path", id="nul"),
        pytest.param("sql", GOOD | {"path": "file:///etc/passwd"}, "path", id="file-url"),
        pytest.param("sql", GOOD | {"path": "http://10.0.0.1/x"}, "path", id="http-url"),
        pytest.param("sql", GOOD | {"path": "s3://bucket/../x"}, "path", id="dots-in-url"),
        pytest.param("sql", GOOD | {"path": "/" + "a" * 4096}, "path", id="long-path"),
        pytest.param("sql", {"path": "/a"}, "base", id="no-base"),
        pytest.param("sql", GOOD | {"base": []}, "base", id="base-type"),
        pytest.param("sql", GOOD | {"replicas": 0}, "replicas", id="none"),
        pytest.param("sql", GOOD | {"replicas": "some"}, "replicas", id="some"),
        pytest.param("sql", GOOD | {"replicas": True}, "replicas", id="true"),
        pytest.param("sql", GOOD | {"replicas": 1.5}, "replicas", id="half"),
        pytest.param("sql", GOOD | {"replicas": 10**30}, "replicas", id="too-many"),
        pytest.param("sql", GOOD | {"placement": "gpu"}, "placement", id="placement-type"),
        pytest.param("sql", GOOD | {"placement": {"gpu": 1}}, "placement", id="label-type"),
        pytest.param("sql", GOOD | {"placement": {str(n): "" for n in range(17)}}, "placement", id="many-labels"),
        pytest.param("sql", GOOD | {"pinned": "yes"}, "pinned", id="pinned-type"),
        pytest.param("sql", GOOD | {"lazy": 1}, "lazy", id="lazy-type"),
        pytest.param("sql", GOOD | {"api_key": "x"}, "api_key", id="unknown-field"),
    ],
)
def test_what_is_wrong_is_named(name: str, fields: dict[str, Any], param: str) -> None:
    problem = read_adapter(name, fields)
    assert isinstance(problem, Problem)
    assert problem.http_status == 400
    assert error_object(problem)["param"] == param


@pytest.mark.parametrize("path", ["/adapters/sql", "org/sql-lora", "s3://bucket/sql", "hf://org/sql"])
def test_paths_repositories_and_urls_are_taken_as_they_are(path: str) -> None:
    assert read_adapter("sql", GOOD | {"path": path}) == DesiredAdapter("sql", path, "llama")


def test_every_field_is_read() -> None:
    fields = GOOD | {"replicas": 2, "placement": {"gpu": "h100"}, "pinned": True, "lazy": True, "name": "sql"}
    expected = DesiredAdapter("sql", "/adapters/sql", "llama", 2, {"gpu": "h100"}, pinned=True, lazy=True)
    assert read_adapter("sql", fields) == expected
