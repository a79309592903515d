"""Path normalisation (URL-01 to URL-14) and model ids in paths."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.paths import decode_model_id, has_dot_segments, normalise


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("/v1/nope", "/v1/nope", id="URL-01 unknown"),
        pytest.param("/chat/completions", "/chat/completions", id="URL-02 outside v1"),
        pytest.param("/v1/v1/chat/completions", "/v1/v1/chat/completions", id="URL-03 doubled v1 stays"),
        pytest.param("/v1/chat/completions/", "/v1/chat/completions", id="URL-04 trailing slash"),
        pytest.param("//v1/chat/completions", "/v1/chat/completions", id="URL-05 doubled slash"),
        pytest.param("/v1///chat//completions//", "/v1/chat/completions", id="many slashes"),
        pytest.param("/v1/chat/completions?api-version=1", "/v1/chat/completions", id="URL-06 query"),
        pytest.param("/v1/chat/completions/?a=/b//", "/v1/chat/completions", id="slash before query"),
        pytest.param("/v1/models#top", "/v1/models", id="fragment"),
        pytest.param("/v1/models#a?b", "/v1/models", id="fragment with question mark"),
        pytest.param("/v1/models/a%2Fb", "/v1/models/a%2Fb", id="escape stays"),
        pytest.param("/v1/models/..%2f..%2fmetrics", "/v1/models/..%2f..%2fmetrics", id="URL-13 traversal"),
        pytest.param("/v1/models/../../metrics", "/v1/models/../../metrics", id="plain dots stay"),
        pytest.param("/v1/chat/completions/.", "/v1/chat/completions/.", id="single dot stays"),
        pytest.param("/v1/%63hat/completions", "/v1/%63hat/completions", id="escaped letter stays"),
        pytest.param("/V1/Models", "/V1/Models", id="case stays"),
        pytest.param("/", "/", id="root"),
        pytest.param("//", "/", id="double root"),
        pytest.param("", "/", id="empty"),
        pytest.param("?x=1", "/", id="only a query"),
        pytest.param("*", "*", id="asterisk form"),
        pytest.param("/v1/deployments/m/chat/completions?api-version=1", "/v1/chat/completions", id="Azure's client"),
        pytest.param("/v1/deployments/org/m/completions", "/v1/completions", id="Azure's client, slash in the model"),
        pytest.param("/v1/deployments/m/audio/speech", "/v1/audio/speech", id="Azure's client, audio"),
        pytest.param("/v1/deployments/m/files", "/v1/deployments/m/files", id="not in a deployment"),
        pytest.param("/v1/deployments/completions", "/v1/deployments/completions", id="deployment without a model"),
        pytest.param("/openai/deployments/m/completions", "/openai/deployments/m/completions", id="Azure's own paths"),
    ],
)
def test_normalise_path_gives_what_the_table_matches(raw: str, expected: str) -> None:
    assert normalise(raw) == expected


@given(st.text())
def test_normalise_any_text_is_idempotent_and_never_raises(raw: str) -> None:
    once = normalise(raw)
    assert normalise(once) == once
    assert "//" not in once
    assert "?" not in once
    assert once == "/" or not once.endswith("/")


@given(st.text(alphabet="/.%2eEfF5cCx?#a"))
def test_normalise_dots_and_escapes_are_kept_as_written(raw: str) -> None:
    path = raw.split("?")[0].split("#")[0]
    segments = [segment for segment in path.split("/") if segment]
    assert [segment for segment in normalise(raw).split("/") if segment] == segments


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/..",
        "/v1/responses/.",
        "/v1/../metrics",
        "/v1/models/..%2f..%2fmetrics",
        "/v1/models/%2e%2E/x",
        "/v1/files/.%2e",
        "/v1/files/..\\x",
        "/v1/files/a%5C..%5cb",
    ],
)
def test_dot_segments_in_any_spelling_are_seen(path: str) -> None:
    assert has_dot_segments(path)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/a..b", "/v1/models/...", "/v1/files/.hidden", "/", "*"])
def test_dots_inside_a_segment_are_no_dot_segments(path: str) -> None:
    assert not has_dot_segments(path)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("llama-3", "llama-3"),
        ("org/model", "org/model"),
        ("org%2Fmodel", "org/model"),
        ("org%2fmodel%3Av1", "org/model:v1"),
        ("ft:base:org::id", "ft:base:org::id"),
        ("my%20model", "my model"),
        ("mod%C3%A8le", "modèle"),
        ("modèle", "modèle"),
        ("a@b+c", "a@b+c"),
        ("%2Fmodels%2Fllama", "/models/llama"),  # engines started without a served name are called by their path
        ("v1..2", "v1..2"),
        ("%252e%252e", "%2e%2e"),  # undone once, not twice
        ("100%25", "100%"),
    ],
)
def test_model_id_with_escapes_is_decoded_once(segment: str, expected: str) -> None:
    assert decode_model_id(segment) == expected


@pytest.mark.parametrize(
    "segment",
    [
        "",
        ".",
        "..",
        "..%2f..%2fmetrics",
        "%2e%2e",
        "a/../b",
        "a%2F.",
        "a%00b",
        "a%0D%0Ab",
        "a\nb",
        "a%C2%85b",
        "a%7Fb",
        "%E2%80%A8",
        "%ff",
        "%C3",
        "%zz",
        "100%",
        "a%2",
        "\ud800",
        "x" * 1025,
    ],
)
def test_model_id_that_no_model_can_have_is_refused(segment: str) -> None:
    assert decode_model_id(segment) is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=100))
def test_model_id_quoted_by_a_client_comes_back(name: str) -> None:
    expected = None if any(part in (".", "..") for part in name.split("/")) else name
    assert decode_model_id(quote(name, safe="")) == expected


@given(st.text())
def test_model_id_of_any_text_never_raises(segment: str) -> None:
    name = decode_model_id(segment)
    assert name is None or (name and not has_control(name))


def has_control(name: str) -> bool:
    return any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name)
