"""Acceptance 7.8: the models that a client can list, retrieve and use are the same."""

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.stack import Stack

MODELS = {"chat-m", "org/chat-s", "chat-s", "lora-1", "emb-m", "asr-m"}
HELLO = [{"role": "user", "content": "hello"}]


def test_mod_01_listing_gives_openais_fields_and_stable_times(stack: Stack) -> None:
    with stack.client(_strict_response_validation=True) as client:
        first, second = client.models.list(), client.models.list()
    assert isinstance(first, openai.pagination.SyncPage)
    assert {card.id for card in first.data} == MODELS
    assert [(card.id, card.created) for card in first.data] == [(card.id, card.created) for card in second.data]
    for card in first.data:
        fields = card.to_dict()
        assert fields["object"] == "model"
        assert fields["owned_by"]
        assert not {"root", "permission"} & set(fields)


def test_mod_01_an_adapter_names_its_parent(client: openai.OpenAI) -> None:
    assert client.models.retrieve("lora-1").to_dict()["parent"] == "org/chat-s"


@pytest.mark.parametrize("path", ["/v1/models/org/chat-s", "/v1/models/org%2Fchat-s", "/v1/models/org%2fchat-s/"])
def test_mod_02_an_id_with_a_slash_is_found_in_either_spelling(stack: Stack, path: str) -> None:
    answer = stack.send("GET", path)
    assert (answer.status, answer.json()["id"]) == (200, "org/chat-s")


def test_mod_02_the_sdk_retrieves_an_id_with_a_slash(client: openai.OpenAI) -> None:
    assert client.models.retrieve("org/chat-s").id == "org/chat-s"


@pytest.mark.parametrize("name", ["a:b@c d", "ü", "a?b", "a#b", "chat-m/x", "%"])
def test_mod_03_odd_ids_are_simply_unknown(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert_openai_error(caught.value, 404, code="model_not_found")


def test_mod_04_an_unknown_model_names_the_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nope")
    assert_openai_error(caught.value, 404, code="model_not_found", param="model", contains="The model 'nope'")


def test_mod_05_a_base_model_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.models.delete("chat-m")
    assert_openai_error(caught.value, 403)
    with pytest.raises(openai.NotFoundError):
        client.models.delete("nope")


@pytest.mark.slow
def test_mod_06_an_adapter_appears_and_goes_with_the_engines_own(stack: Stack, client: openai.OpenAI) -> None:
    engine = stack.engine("small")
    assert engine.post("/v1/load_lora_adapter", {"lora_name": "lora-new", "lora_path": "/adapters/new"}) == 200
    try:
        stack.wait_models(MODELS | {"lora-new"}, deadline=15.0)
        assert client.chat.completions.create(model="lora-new", messages=HELLO).model == "lora-new"
    finally:
        engine.post("/v1/unload_lora_adapter", {"lora_name": "lora-new"})
        stack.wait_models(MODELS, deadline=15.0)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="lora-new", messages=HELLO)


def test_mod_07_every_listed_model_can_be_used(client: openai.OpenAI) -> None:
    for card in client.models.list():
        match card.id:
            case "emb-m":
                assert client.embeddings.create(model=card.id, input="x").data
            case "asr-m":
                assert client.audio.transcriptions.create(model=card.id, file=("a.wav", b"RIFF")).text
            case _:
                assert client.chat.completions.create(model=card.id, messages=HELLO).choices


def test_mod_08_a_model_of_two_engines_is_listed_once(stack: Stack, client: openai.OpenAI) -> None:
    assert len(stack.engines_of("chat-m")) == 2
    assert [card.id for card in client.models.list()].count("chat-m") == 1
