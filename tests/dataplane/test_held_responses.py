"""Acceptance RESP-04: what a response's id is good for while two engines keep responses of their own."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

KEYS = ("sk-one-0123456789abcdefgh", "sk-two-0123456789abcdefgh")
ASKED: dict[str, Any] = {"model": "chat-m", "input": "hello", "max_output_tokens": 4}
FLEET = tuple(EngineSpec(name, ("chat-m",), ("--enable-responses-store",)) for name in ("left", "right"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two engines of one model, asked in turn."""
    options: dict[str, Any] = {"api_keys": KEYS, "killable": True, "serve_arguments": ("--strategy", "round-robin")}
    with running(Stack(tmp_path_factory.mktemp("pair"), FLEET, **options)) as started:
        yield started


@pytest.fixture
def sdk(pair: Stack) -> Iterator[openai.OpenAI]:
    with pair.client() as made:
        yield made


def test_resp_04_retrieve_and_previous_response_id_find_their_engine(sdk: openai.OpenAI) -> None:
    made = [sdk.responses.create(**ASKED) for _ in range(6)]
    assert len({one.id for one in made}) == 6
    for one in made:
        assert sdk.responses.retrieve(one.id).output_text == one.output_text
        following = sdk.responses.create(**ASKED, previous_response_id=one.id)
        assert sdk.responses.retrieve(following.id).previous_response_id == one.id


def test_resp_04_a_streamed_response_is_found_by_the_id_in_its_events(sdk: openai.OpenAI) -> None:
    for _ in range(2):
        first, *_rest = list(sdk.responses.create(**ASKED, stream=True))
        assert sdk.responses.retrieve(first.response.id).id == first.response.id


def test_resp_04_a_response_in_the_background_is_cancelled_where_it_runs(sdk: openai.OpenAI) -> None:
    for _ in range(2):
        made = sdk.responses.create(model="chat-m", input="hello", max_output_tokens=64, background=True)
        assert sdk.responses.cancel(made.id).status in ("cancelled", "completed", "incomplete")


def test_resp_04_an_unknown_response_is_not_found_in_openais_words(pair: Stack, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.responses.retrieve("resp_nope")
    assert_openai_error(caught.value, 404, code=None, contains="Response with id 'resp_nope' not found.")
    with pytest.raises(openai.BadRequestError) as caught_too:
        sdk.responses.create(**ASKED, previous_response_id="resp_nope")
    assert_previous_not_found(caught_too.value, "resp_nope")


def assert_previous_not_found(error: openai.BadRequestError, response_id: str) -> None:
    """The error on which clients send their history again."""
    words = f"Previous response with id '{response_id}' not found."
    code = "previous_response_not_found"
    assert_openai_error(error, 400, code=code, contains=words, param="previous_response_id")


def test_resp_04_a_response_that_a_restarted_engine_has_lost_is_not_found(pair: Stack, sdk: openai.OpenAI) -> None:
    made = [sdk.responses.create(**ASKED).id for _ in range(2)]
    pair.kill_engine("left")
    pair.restart_engine("left")

    def statuses() -> list[int]:
        return sorted(pair.send("GET", f"/v1/responses/{one}").status for one in made)

    eventually(lambda: statuses() == [200, 404], "the restarted engine is asked and has forgotten")
    (gone,) = [one for one in made if pair.send("GET", f"/v1/responses/{one}").status == 404]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**ASKED, previous_response_id=gone)
    assert_previous_not_found(caught.value, gone)


def test_auth_06_resp_04_a_response_of_another_caller_does_not_exist(pair: Stack, sdk: openai.OpenAI) -> None:
    made = sdk.responses.create(**ASKED)
    with pair.client(api_key=KEYS[1]) as other, pytest.raises(openai.NotFoundError):
        other.responses.retrieve(made.id)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same behind two gateway processes that share nothing but a secret."""
    options: dict[str, Any] = {"api_keys": KEYS, "killable": True, "serve_arguments": ("--strategy", "round-robin")}
    with running(Stack(tmp_path_factory.mktemp("replicas"), FLEET, workers_wanted=2, **options)) as started:
        yield started


def test_resp_04_every_gateway_process_finds_every_response(replicas: Stack) -> None:
    with replicas.client() as sdk:
        made = [sdk.responses.create(**ASKED) for _ in range(20)]
        for one in made:
            assert sdk.responses.retrieve(one.id).output_text == one.output_text
            following = sdk.responses.create(**ASKED, previous_response_id=one.id)
            assert following.previous_response_id == one.id
    placed = [worker.total("aibrix_extproc_exchanges_total") for worker in replicas.workers]
    assert all(count > 0 for count in placed), "both were asked"


def test_resp_04_responses_outlive_the_gateway_processes(replicas: Stack) -> None:
    with replicas.client() as sdk:
        made = [sdk.responses.create(**ASKED).id for _ in range(6)]
        for index, worker in enumerate(list(replicas.workers)):
            worker.child.kill()
            replicas.restart_worker(index)

        def statuses() -> list[int]:
            return [replicas.send("GET", f"/v1/responses/{one}").status for one in made]

        eventually(lambda: statuses() == [200] * 6, "the new processes find them")
        with replicas.client(api_key=KEYS[1]) as other, pytest.raises(openai.NotFoundError):
            other.responses.retrieve(made[0])


def test_resp_04_a_response_whose_engine_has_left_is_not_found(pair: Stack, sdk: openai.OpenAI) -> None:
    made = [sdk.responses.create(**ASKED).id for _ in range(2)]
    pair.write_fleet("left")

    def known() -> list[str]:
        return [one for one in made if pair.send("GET", f"/v1/responses/{one}").status == 200]

    eventually(lambda: len(known()) == 1, "only the engine that stayed is asked")
    (gone,) = set(made) - set(known())
    assert_openai_error(pair.send("GET", f"/v1/responses/{gone}"), 404)
