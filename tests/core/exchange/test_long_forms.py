"""Forms that are too long for one turn: read in steps between two phases of the request."""

from aibrix_extproc.core.exchange.asks import Admitted, BodyRead, Place, Read
from aibrix_extproc.core.exchange.events import RequestTrailers
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.wire.multipart import STEP_BYTES
from tests.build import CALLER, a_closing, a_request_body, a_request_head

LONG_FORM = (
    b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(3 * STEP_BYTES)
    + b'\r\n--cut\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--cut--\r\n'
)  # fmt: skip


def reading(form: bytes) -> tuple[Exchange, Read]:
    """An exchange that waits for a long form to be read."""
    exchange = Exchange(ExchangePolicy())
    exchange.receive(a_request_head(path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=cut"))
    exchange.receive(Admitted(CALLER))
    (ask,) = exchange.receive(a_request_body(form))
    assert isinstance(ask, Read)
    return exchange, ask


def the_rest(ask: Read) -> tuple[int, BodyRead]:
    """How many more steps a long form takes, and what it says."""
    for steps in range(1, 100):
        found = ask.step()
        if found is not None:
            return steps, found
    raise AssertionError("it has no end")


def test_long_audio_form_is_read_in_steps_before_it_is_placed() -> None:
    exchange, ask = reading(LONG_FORM)
    assert exchange.receive(RequestTrailers(3.0)) == (Continue(Phase.REQUEST_TRAILERS),)
    steps, read = the_rest(ask)
    assert steps == 3
    (place,) = exchange.receive(read)
    assert isinstance(place, Place)
    assert (place.query.model, place.query.body_bytes) == ("whisper", len(LONG_FORM))


def test_long_audio_form_that_is_cut_is_a_400() -> None:
    exchange, ask = reading(LONG_FORM[:-10])
    (answer,) = exchange.receive(the_rest(ask)[1])
    assert isinstance(answer, Immediate)
    assert (answer.status, answer.details) == (400, "ext_proc_malformed_multipart")


def test_client_gone_while_its_form_is_read_leaves_nothing_to_do() -> None:
    exchange, ask = reading(LONG_FORM)
    exchange.receive(a_closing())
    assert exchange.receive(the_rest(ask)[1]) == ()
