"""The first questions to a deployment, and what of it ends the run at once."""

import json

import pytest

from aibrix_extproc.conformance.case import Need
from aibrix_extproc.conformance.probe import look
from aibrix_extproc.conformance.target import UsageError
from tests.conformance.fake import Reply, Script, a_target, deployment, silent

JSON = {"content-type": "application/json"}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def reply(status: int, document: object) -> Reply:
    return status, JSON, json.dumps(document).encode()


def listing(*cards: object) -> Reply:
    return reply(200, {"object": "list", "data": list(cards)})


def serving(models: Reply, *paths: str) -> Script:
    """Lists models and answers 200 below these paths."""

    def script(method: str, path: str) -> Reply:
        if path == "/v1/models":
            return models
        return reply(200 if path in paths else 404, {})

    return script


def test_a_chat_model_is_found_with_its_context_and_adapter() -> None:
    cards = (
        {"id": "a", "max_model_len": 512}, {"id": "b"}, {"id": "l", "parent": "a"}, "nonsense", {"id": 5},
    )  # fmt: skip
    with deployment(serving(listing(*cards), CHAT)) as url:
        found = look(a_target(url))
    assert found.models == {Need.CHAT: "a", Need.SECOND: "b", Need.LORA: "l"}
    assert [card.id for card in found.cards] == ["a", "b", "l"]
    assert found.contexts == {"a": 512}
    assert not found.wants_key
    assert found.lacks(Need.EMBEDDING, a_target(url)) == ("no embedding model was found or given (--embedding-model)")


def test_other_kinds_are_found_by_what_they_answer() -> None:
    with deployment(serving(listing({"id": "e"}), EMBEDDINGS, "/v1/rerank")) as url:
        found = look(a_target(url))
    assert found.models == {Need.EMBEDDING: "e", Need.RERANK: "e"}
    assert found.lacks(Need.CONTEXT, a_target(url)).endswith("give --context-length")


def test_a_named_model_goes_first() -> None:
    with deployment(serving(listing({"id": "a"}, {"id": "b"}), CHAT)) as url:
        found = look(a_target(url, named={Need.CHAT: "b"}, context_length=99))
    assert found.models == {Need.CHAT: "b", Need.SECOND: "a"}
    assert found.contexts == {"b": 99}


def test_a_named_model_that_is_neither_listed_nor_served_ends_the_run() -> None:
    with (
        deployment(serving(listing({"id": "a"}), EMBEDDINGS[:5])) as url,
        pytest.raises(UsageError, match=r"^--model b is neither listed nor served; listed models: a$"),
    ):
        look(a_target(url, named={Need.CHAT: "b"}))


@pytest.mark.parametrize(
    ("models", "text"),
    [(listing(), "lists no models"), (reply(200, {"data": 5}), "lists no models"), (reply(200, [1]), "lists no models"),
     ((200, {}, b"<html>"), "lists no models"), (reply(404, {"detail": "Not Found"}), r"\(404: .*Not Found")],
    ids=["empty", "no-list", "array", "html", "not-found"],
)  # fmt: skip
def test_no_list_and_no_named_model_ends_the_run(models: Reply, text: str) -> None:
    with deployment(serving(models)) as url, pytest.raises(UsageError, match=text):
        look(a_target(url))


@pytest.mark.parametrize(
    ("key", "text"), [(None, "wants an API key; give it with --api-key"), ("sk-0123456789", "refuses the API key")]
)
def test_a_key_that_is_missing_or_wrong_ends_the_run(key: str | None, text: str) -> None:
    refusal = reply(401, {"error": {"message": "Bad key."}})
    with deployment(serving(refusal)) as url, pytest.raises(UsageError, match=rf"{text} \(401: Bad key\.\)$"):
        look(a_target(url, api_key=key))


def test_a_deployment_that_says_nothing_ends_the_run() -> None:
    with silent() as url, pytest.raises(UsageError, match=r"does not answer within 0\.1 s"):
        look(a_target(url, seconds=0.1))


def test_nobody_at_the_base_url_ends_the_run() -> None:
    with silent() as url:
        pass
    with pytest.raises(UsageError, match=r"/v1 cannot be reached: Connection refused$"):
        look(a_target(url))


def test_no_tls_at_an_https_url_ends_the_run() -> None:
    with deployment(serving(listing())) as url, pytest.raises(UsageError, match="cannot be reached over TLS"):
        look(a_target(url.replace("http:", "https:")))


@pytest.mark.parametrize("status", [400, 401, 403, 422, 500])
def test_a_list_that_is_refused_without_a_key_wants_one(status: int) -> None:
    def script(method: str, path: str) -> Reply:
        return reply(status, {}) if path == "/v1/models" and not asked.pop(0) else listing({"id": "a"})

    asked = [True, False, *[True] * 50]  # the second question comes without a key
    with deployment(script) as url:
        assert look(a_target(url, api_key="sk-0123456789")).wants_key


@pytest.mark.parametrize("status", [400, 500])
def test_a_list_that_is_refused_with_an_odd_status_asks_for_the_key(status: int) -> None:
    with deployment(lambda method, path: reply(status, {})) as url, pytest.raises(UsageError, match="wants an API key"):
        look(a_target(url))
