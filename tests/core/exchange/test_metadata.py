"""Operations of the metadata service: admitted at their head, then passed on without their body."""

import json

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.exchange.asks import Admitted, Authenticate, Reserve
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract.headers import ENGINE_LOAD, ON_BEHALF, SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller
from tests.build import CALLER, a_placed, a_request_body, a_request_head, a_response_head

POLICY = ExchangePolicy(metadata=True, metering=True)


def admitted(
    headers: dict[str, str] | None = None, policy: ExchangePolicy = POLICY
) -> tuple[Exchange, Continue | Immediate]:
    exchange = Exchange(policy)
    given = {"content-type": "multipart/form-data; boundary=b", "content-length": str(2**33), **(headers or {})}
    (ask,) = exchange.receive(a_request_head("POST", "/v1/files", headers=given))
    assert isinstance(ask, Authenticate)
    assert ask.operation is not None
    assert ask.operation.id == "create_file"
    (reply,) = exchange.receive(Admitted(CALLER, "signed"))
    assert isinstance(reply, Continue | Immediate)
    return exchange, reply


def test_body_of_any_size_is_skipped_and_the_caller_is_signed() -> None:
    _, reply = admitted({SIGNED_CALLER: "forged", "authorization": "Bearer sk-client"})
    assert isinstance(reply, Continue)
    assert reply.skip_body
    assert reply.destination is None
    assert [value for name, value in reply.set_headers if name == SIGNED_CALLER] == ["signed"]
    assert SIGNED_CALLER not in reply.remove_headers
    assert "authorization" in reply.remove_headers


def test_identity_that_a_worker_speaks_for_goes_no_further() -> None:
    _, reply = admitted({ON_BEHALF: "somebody"})
    assert isinstance(reply, Continue)
    assert ON_BEHALF in reply.remove_headers


def test_without_a_service_the_operation_is_an_unknown_url() -> None:
    _, reply = admitted(policy=ExchangePolicy())
    assert isinstance(reply, Immediate)
    assert reply.status == 404


@pytest.mark.parametrize("status", [200, 404, 413, 503])
def test_answers_of_the_service_pass_as_they_are(status: int) -> None:
    exchange, _ = admitted()
    (reply,) = exchange.receive(a_response_head(status=status, headers={"content-type": "application/json"}))
    assert isinstance(reply, Continue)
    assert not reply.buffer_response
    assert ":status" not in dict(reply.set_headers)
    assert dict(reply.set_headers)["x-request-id"]


def test_service_that_cannot_be_reached_is_no_engine() -> None:
    exchange, _ = admitted()
    head = a_response_head(status=503, code_details="upstream_reset_before_response_started{connection_failure}")
    (reply,) = exchange.receive(head)
    assert isinstance(reply, Immediate)
    assert reply.status == 503
    assert "storage" in json.loads(reply.body)["error"]["message"]


def answered(path: str, caller: Caller, method: str = "GET") -> Continue | Immediate:
    exchange = Exchange(POLICY)
    exchange.receive(a_request_head(method, path, end_of_stream=True))
    (reply,) = exchange.receive(Admitted(caller, "signed"))
    assert isinstance(reply, Continue | Immediate)
    return reply


@pytest.mark.parametrize(("path", "output"), [("/v1/usage", Continue), ("/v1/files", Reserve)])
def test_asking_for_ones_usage_takes_nothing_from_ones_limits(path: str, output: type) -> None:
    exchange = Exchange(POLICY)
    exchange.receive(a_request_head("GET", path, end_of_stream=True))
    (found,) = exchange.receive(Admitted(CALLER, "signed", limits=lambda _: ()))
    assert type(found) is output


def test_a_path_of_operators_is_an_unknown_path_to_others_byte_by_byte() -> None:
    for path, method in (("/admin/v1/audit", "GET"), ("/admin/v1/audit", "PATCH")):
        found, unknown = answered(path, CALLER, method), answered("/admin/v1/adieu", CALLER, method)
        assert isinstance(found, Immediate)
        assert isinstance(unknown, Immediate)
        assert replace(found, body=found.body.replace(b"audit", b"adieu")) == unknown
    assert isinstance(answered("/admin/v1/audit", Caller("ann", role=Role.ADMIN)), Continue)


@pytest.mark.parametrize(("batch_id", "wanted"), [("batch_1", ["ab12 3 2"]), ("", [])])
@pytest.mark.parametrize("status", [200, 503])
def test_answers_to_lines_of_batches_describe_the_load_of_the_moment(
    batch_id: str, wanted: list[str], status: int
) -> None:
    exchange = Exchange(POLICY)
    exchange.receive(a_request_head())
    exchange.receive(Admitted(CALLER, batch_id=batch_id))
    exchange.receive(a_request_body())
    now = "ab12 0 2"
    exchange.receive(replace(a_placed(), engine_load=lambda: now))
    now = "ab12 3 2"
    *_, reply = exchange.receive(a_response_head(status, end_of_stream=status != 200))
    assert isinstance(reply, Continue | Immediate)
    given = reply.set_headers if isinstance(reply, Continue) else reply.headers
    assert [value for name, value in given if name == ENGINE_LOAD] == wanted
