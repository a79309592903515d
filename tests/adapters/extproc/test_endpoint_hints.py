"""What a gateway says of endpoints in metadata: which may be picked, which has answered."""

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import Place
from aibrix_extproc.core.exchange.outputs import Moved
from tests.adapters.extproc.streamed import (
    CHAT,
    Conversation,
    a_conversation,
    request_body,
    request_head,
    response_head,
)


def hinted(*entries: str, text: str | None = None) -> Conversation:
    """A chat completion with a hint of the gateway."""
    talk = a_conversation()
    message = request_head()
    hint = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
    value = hint.fields["x-gateway-destination-endpoint-subset"]
    if text is not None:
        value.string_value = text
    else:
        value.list_value.SetInParent()
        for entry in entries:
            value.list_value.values.add(string_value=entry)
    talk.tell(message)
    talk.tell(request_body(CHAT, end=True))
    return talk


def subset(talk: Conversation) -> object:
    (place,) = [ask for ask in talk.dispatcher.asks if isinstance(ask, Place)]
    return place.subset


def test_subset_hint_reaches_the_placement_as_a_list_as_a_text_or_as_both() -> None:
    for talk in (
        hinted("10.0.0.1:8000", "10.0.0.2"),
        hinted("10.0.0.1:8000,10.0.0.2"),
        hinted(text="10.0.0.1:8000, 10.0.0.2"),
    ):
        found = subset(talk)
        assert found is not None
        assert [found.has(f"10.0.0.{n}:8000") for n in (1, 2, 3)] == [True, True, False]  # type: ignore[attr-defined]


def test_empty_subset_hint_is_not_the_same_as_none() -> None:
    for talk in (hinted(), hinted(text="")):
        found = subset(talk)
        assert found is not None
        assert not found.has("10.0.0.1:8000")  # type: ignore[attr-defined]
    talk = a_conversation()
    message = request_head()
    message.metadata_context.filter_metadata["envoy.lb"].SetInParent()
    talk.tell(message)
    talk.tell(request_body(CHAT, end=True))
    assert subset(talk) is None


def test_served_endpoint_of_the_metadata_moves_the_load() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    message = response_head(upstream_address="")
    served = message.metadata_context.filter_metadata["envoy.lb"].fields["x-gateway-destination-endpoint-served"]
    served.string_value = "10.0.0.2:8000"
    talk.tell(message)
    assert Moved("engine-1", "engine-2", request_id="made-id") in talk.dispatcher.facts
    talk.session.close(events.Cause.HALF_CLOSED)
    assert talk.dispatcher.finished.upstream_address == "10.0.0.2:8000"
