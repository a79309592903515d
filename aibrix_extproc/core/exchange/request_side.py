"""The request's half of an exchange: match the operation, authenticate, read the body, place, forward."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.core.exchange import asks, events, forwarding
from aibrix_extproc.core.exchange.admission import asks_for_upgrade, needs_body, refusal_from_head, too_large
from aibrix_extproc.core.exchange.asks import Authenticate, Describe, Place, Prefill, Read, ReadLarge, Reserve
from aibrix_extproc.core.exchange.direction import Direction
from aibrix_extproc.core.exchange.endpoint_picker import DROPPED_REASON, REASONS, assumed
from aibrix_extproc.core.exchange.forms import form_facts, next_step
from aibrix_extproc.core.exchange.outputs import Assigned, Continue, Headers, Immediate, Outcome, Output, Phase, WaitFor
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.prefilling import Prefilling
from aibrix_extproc.core.exchange.routing_headers import routing_headers_of, wants_sizes
from aibrix_extproc.core.exchange.states import REQUEST_TABLE, RequestPhase
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.errors import Problem, Shaped, shape
from aibrix_extproc.core.openai.contract.operation_rows import GATEWAY_HEALTH, ROUTER, is_anthropic
from aibrix_extproc.core.openai.contract.operations import Action, Match, ModelIn, Operation, unknown_url
from aibrix_extproc.core.openai.contract.paths import normalise
from aibrix_extproc.core.openai.wire import cors, request
from aibrix_extproc.core.openai.wire.multipart import FormReader
from aibrix_extproc.core.openai.wire.prefill import Unsplit
from aibrix_extproc.core.openai.wire.prefix import SHORTEST_PROMPT
from aibrix_extproc.core.openai.wire.sizes import MEDIA_BYTES, UNKNOWN, Sizes, has_media
from aibrix_extproc.core.openai.wire.splice import Edit
from aibrix_extproc.core.placing import ANYONE, Caller, Placement, RouteQuery
from aibrix_extproc.core.routing.disaggregation.handover import Handover
from aibrix_extproc.rope import Rope

Step = tuple[RequestPhase, tuple[Output, ...]]
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class RequestSide(Direction[RequestPhase]):
    """Steps through the phases of the request. The response side and the closing fact read its attributes."""

    def __init__(self, policy: ExchangePolicy) -> None:
        super().__init__("request", RequestPhase.IDLE, REQUEST_TABLE)
        self.policy = policy
        self._head: events.RequestHead | None = None
        self._headers = _NO_HEADERS
        self._match: Match | None = None
        self._unmatched: Problem | None = None
        self._unread: bytes | Rope = b""  # the client's body while it is read in steps or in another process
        self._body: bytes | Rope = b""  # the client's body once it is read, kept until the request is placed
        self._method = ""
        self.path = ""  # normalised, without the query string
        self.caller: Caller = ANYONE
        self.batch_id = ""
        self.reservation = ""
        self._limits: Callable[[bool], Headers] | None = None  # of a limited caller: what is known of its limits
        self._limit_headers: Headers | None = None  # once it has a reservation
        self._after_reserving: Callable[[], Step] | None = None
        self.request_id = ""
        self.origin: str | None = None
        self.facts: request.RequestFacts | None = None
        self.response_id: str | None = None  # what the engine will call the response that it makes
        self.placement: Placement | None = None
        self._query: RouteQuery | None = None  # while it is placed
        self._body_at = 0.0
        self._prefilling: Prefilling | None = None
        self._placement_headers: Headers = ()  # about the placement, for the client
        self._engine_load: Callable[[], str] | None = None
        self.is_for_metadata_service = False  # and passes without our reading its body
        self.problem: str | None = None
        self.answered: Immediate | None = None
        self.outcome = Outcome.CANCELLED
        self.body_bytes = 0
        self.started_at: float | None = None
        self.placed_at: float | None = None

    @property
    def operation(self) -> Operation | None:
        """The matched row, None for an unknown URL."""
        return self._match.operation if self._match is not None else None

    @property
    def method(self) -> str:
        """The HTTP method as sent, or as it is assumed."""
        return self._method

    @property
    def anthropic(self) -> bool:
        """Whether errors take Anthropic's shape."""
        return is_anthropic(self.path)

    def drop_body(self) -> None:
        """Drop the client's body, which is not needed any more."""
        self._unread = self._body = b""

    def refuse(self, problem: Problem, outcome: Outcome = Outcome.REFUSED) -> Immediate:
        """The final answer for a problem, remembered for the closing fact."""
        shaped = self.shaped(problem)
        self.problem, self.outcome = problem.key, outcome
        extra = shaped.headers
        if self.policy.is_picker and self.placement is None and problem.key in REASONS:
            extra += ((DROPPED_REASON, REASONS[problem.key]),)
        return self._finish(shaped.status, extra, shaped.body, problem.key)

    def shaped(self, problem: Problem) -> Shaped:
        """A problem as the clients of this operation expect it."""
        return shape(problem, anthropic=self.anthropic, request_id=self.request_id)

    def own_headers(self) -> Headers:
        """What every answer carries, ours or an engine's."""
        own: Headers = ((headers.REQUEST_ID, self.request_id), ("openai-version", headers.OPENAI_VERSION))
        own += self._placement_headers
        if self._limits is not None:
            own += self._limit_headers if self._limit_headers is not None else self._limits(self.anthropic)
        if self.batch_id and self._engine_load is not None:
            own += ((headers.ENGINE_LOAD, self._engine_load()),)
        return own if self.origin is None else (*own, *cors.response_headers(self.origin))

    def _finish(self, status: int, extra: Headers, body: bytes, reason: str) -> Immediate:
        answer = Immediate(status, (*extra, *self.own_headers()), body, f"ext_proc_{reason}")
        self.answered = answer
        return answer

    def _refused(self, problem: Problem) -> Step:
        return RequestPhase.ANSWERED, (self.refuse(problem),)

    def _step(self, event: events.Event) -> Step:
        return _STEPS[type(event)](self, event)

    def _on_body_read(self, event: asks.BodyRead) -> Step:
        body, self._unread = self._unread, b""
        return self._on_facts(event.facts, body)

    def _on_described(self, event: asks.Described) -> Step:
        self.outcome = Outcome.ANSWERED
        return RequestPhase.ANSWERED, (self._finish(event.status, event.headers, event.body, "answered"),)

    def _on_refused(self, event: asks.Refused) -> Step:
        self._unread = b""
        if self._phase is RequestPhase.RESERVING:
            self._limit_headers = ()  # the problem has those of this moment
        return self._refused(event.problem)

    def _on_trailers(self, _: events.RequestTrailers) -> Step:
        return self._phase, (Continue(Phase.REQUEST_TRAILERS),)

    def _on_head(self, event: events.RequestHead) -> Step:
        self._head = event
        self.started_at = event.at
        self.request_id = event.request_id
        self._headers = event.headers
        if self.policy.is_picker:
            self._method, path = assumed(event.headers)
        else:
            self._method, path = event.headers.get(":method", ""), event.headers.get(":path", "")
        self.path = normalise(path)
        if self.method == "OPTIONS":
            self.outcome = Outcome.ANSWERED
            return RequestPhase.ANSWERED, (self._finish(204, cors.preflight_headers(event.headers), b"", "preflight"),)
        if self.path == self.policy.health_path and self.method in ("GET", "HEAD"):
            self._match = Match(GATEWAY_HEALTH, _NO_HEADERS)
            return RequestPhase.DESCRIBING, (Describe(GATEWAY_HEALTH, _NO_HEADERS, ANYONE),)
        self.origin = event.headers.get("origin")
        found = ROUTER.match(self.method, self.path)
        if isinstance(found, Match):
            self._match = found
        else:
            self._unmatched = found
        # Authentication comes first: an unknown URL asked with a bad key is a 401.
        return RequestPhase.ADMITTING, (
            Authenticate(
                self.operation,
                event.headers.get("authorization"),
                event.headers.get("x-api-key"),
                event.headers.get("api-key"),
                event.request_id,
                event.headers.get(headers.ON_BEHALF),
            ),
        )

    def _on_admitted(self, event: asks.Admitted) -> Step:
        assert self._head is not None
        self.caller, self.batch_id, self._limits = event.caller, event.batch_id, event.limits
        if asks_for_upgrade(self._headers):
            return self._refused(Problem("upgrade_refused"))
        if self._match is None or not self.caller.may_see(self._match.operation):
            return self._refused(self._unmatched or unknown_url(self.method, self.path))
        operation = self._match.operation
        if operation.action is Action.LOCAL:
            has = self._headers.get(headers.IF_NONE_MATCH, "")
            return RequestPhase.DESCRIBING, (Describe(operation, self._match.parameters, self.caller, has),)
        if operation.action is Action.METADATA and self.policy.metadata:
            forward = partial(self._forward_to_metadata_service, event.signed)
            return forward() if operation.is_free else self._reserved(operation, forward)
        ended = self._head.end_of_stream
        problem = refusal_from_head(operation, self._headers, self.path, end_of_stream=ended, policy=self.policy)
        if problem is not None:
            return self._refused(problem)
        if needs_body(operation, end_of_stream=ended):
            forged = forwarding.forged_headers(self._headers)
            return RequestPhase.AWAITING_BODY, (Continue(Phase.REQUEST_HEAD, remove_headers=forged),)
        return self._reserved(operation, partial(self._place_at_owner, operation))

    def _forward_to_metadata_service(self, signed: str) -> Step:
        """Send the request to the metadata service. Envoy streams the body there."""
        changed = forwarding.set_headers(self._headers, self.path, self.request_id, None, None)
        answer = Continue(
            Phase.REQUEST_HEAD,
            set_headers=((headers.SIGNED_CALLER, signed), *changed),
            remove_headers=forwarding.removed_headers(self._headers, self.caller, ((headers.SIGNED_CALLER, signed),)),
            skip_body=True,
        )
        self.is_for_metadata_service = True
        return RequestPhase.PLACED, (answer,)

    def _place_at_owner(self, operation: Operation) -> Step:
        """Ask for the endpoint that made the response whose id is in the path."""
        assert self._match is not None
        assert self._head is not None
        response, subset = self._match.parameters.get("response_id", ""), self._head.subset
        query = RouteQuery(model="")
        place = Place(operation, query, None, self.caller, response, subset, self.request_id, bool(self.batch_id))
        return RequestPhase.PLACING, (place,)

    def _on_body(self, event: events.RequestBody | events.LargeRequestBody) -> Step:
        assert self._match is not None
        assert self._head is not None
        operation = self._match.operation
        self.body_bytes, self._body_at = len(event.data), event.at
        if self._phase is RequestPhase.PLACED:
            return self._phase, (Continue(Phase.REQUEST_BODY),)
        problem = too_large(operation, self.body_bytes, self.policy)
        if problem is not None:
            return self._refused(problem)
        if operation.action is Action.STICKY:
            return self._reserved(operation, partial(self._place_at_owner, operation))
        return self._read_json(event.data) if operation.model_in is ModelIn.JSON else self._read_form(event.data)

    def _read_json(self, body: bytes | Rope) -> Step:
        assert self._match is not None
        sized = self._limits is not None or wants_sizes(self._headers)
        seed = 0
        if self._match.operation.generates and len(body) >= SHORTEST_PROMPT:
            seed = self.policy.prefix_seed()
        if isinstance(body, Rope):
            self._unread = body
            return RequestPhase.READING, (ReadLarge(body, sized, seed),)
        return self._on_facts(request.read_json(body, self.policy.media_hosts, sized=sized, prefix_seed=seed), body)

    def _read_form(self, body: bytes | Rope) -> Step:
        reader = FormReader(self._headers.get("content-type", ""), body)
        fields = reader.step()
        if fields is None:
            self._unread = body
            return RequestPhase.READING, (Read(partial(next_step, reader)),)
        return self._on_facts(form_facts(fields), body)

    def _on_facts(self, facts: request.RequestFacts | Problem, body: bytes | Rope) -> Step:
        assert self._match is not None
        assert self._head is not None
        operation = self._match.operation
        if isinstance(facts, Problem):
            return self._refused(facts)
        self.facts = facts
        forbidden = forwarding.unsupported(operation, facts) or forwarding.forbidden_control(facts, self.caller)
        if forbidden is not None:
            return self._refused(forbidden)
        self._body = body
        query = RouteQuery(
            facts.model, body_bytes=self.body_bytes, prefix=facts.prefix, max_tokens=facts.sizes[1],
            caller=self.caller.name,
        )  # fmt: skip
        self._query = query
        routing = routing_headers_of(self._headers, facts.sizes if wants_sizes(self._headers) else UNKNOWN)
        stored = facts.previous_response_id if operation.makes_response else None  # others ignore it
        place = Place(
            operation, query, routing, self.caller, stored, self._head.subset, self.request_id, bool(self.batch_id),
            self._asked_wait, self._headers.get(headers.RETRY_COUNT),
        )  # fmt: skip
        if self._limits is None:
            return RequestPhase.PLACING, (place,)
        return self._reserved(operation, lambda: (RequestPhase.PLACING, (place,)), facts.model, facts.sizes)

    def _reserved(
        self, operation: Operation, after: Callable[[], Step], model: str = "", sizes: Sizes = UNKNOWN
    ) -> Step:
        """Reserve what a limited caller asks for, then go on; at once for others."""
        if self._limits is None:
            return after()
        self._after_reserving = after
        assert self._head is not None
        size = self.body_bytes or headers.content_length(self._head.headers)
        media = size > MEDIA_BYTES and has_media(self._body)
        return RequestPhase.RESERVING, (Reserve(operation, model, self.caller, size, sizes, media),)

    def _on_reserved(self, event: asks.Reserved) -> Step:
        after, self._after_reserving = self._after_reserving, None
        assert after is not None
        self.reservation, self._limit_headers = event.reservation, event.answer_headers
        return after()

    def _on_placed(self, event: asks.Placed) -> Step:
        self.placed_at = event.at
        self.placement = event.placement
        self._placement_headers = event.answer_headers
        self._engine_load = event.engine_load
        self.response_id = event.response_id
        if event.handover is not None and self._query is not None:
            return self._prefill(event, event.handover, self._query)
        query, self._query = self._query, None
        return self._forward(event, self._assigned(event, query))

    def _assigned(self, event: asks.Placed, query: RouteQuery | None, *, prefill: bool = False) -> Assigned:
        return Assigned(event.placement.first.identity, bool(self.batch_id), self.request_id, query, prefill)

    def _prefill(self, placed: asks.Placed, handover: Handover, query: RouteQuery) -> Step:
        """Ask for the prompt to be computed elsewhere. The load counts already, so that others are placed by it."""
        assert self._match is not None
        assert self.facts is not None
        operation = self._match.operation
        found = forwarding.split_body(operation, self.facts, self._body, self.caller, self.request_id)
        cut, body = (None, found) if isinstance(found, Unsplit) else found
        self._prefilling, waited = Prefilling(placed, query, cut), placed.at - self._body_at
        ask = Prefill(handover, query, operation.engine_path or self.path, body, self.request_id, waited)
        return RequestPhase.PREFILLING, (self._assigned(placed, query, prefill=True), ask)

    def _on_prefilled(self, event: asks.PrefillDone) -> Step:
        prefilling, self._prefilling, self._query = self._prefilling, None, None
        assert prefilling is not None
        transfer, placed = prefilling.transfer(event), prefilling.placed
        return self._forward(placed, prefilling.forwarded(self.request_id, transfer), transfer, event.at - placed.at)

    def _forward(self, event: asks.Placed, fact: Output, transfer: tuple[Edit, ...] = (), spent: float = 0.0) -> Step:
        """Send the request to its endpoint. `spent`: seconds of the client's patience."""
        assert self._match is not None
        assert self._head is not None
        operation, placement = self._match.operation, event.placement
        client_body, self._body = self._body, b""
        body = forwarding.UNCHANGED
        if self.facts is not None:
            body = forwarding.changed_body(
                operation,
                self.facts,
                client_body,
                self.caller,
                request_id=self.request_id,
                response_id=event.response_id,
                metering=self.policy.metering,
                transfer=transfer,
            )
        needed_body = needs_body(operation, end_of_stream=self._head.end_of_stream)
        path = operation.engine_path or self.path
        changed = forwarding.set_headers(self._headers, path, self.request_id, placement.first.api_key, body.data)
        changed += event.engine_headers
        if self.policy.names_sessions and operation.generates:
            changed = (*changed, (headers.SESSION_ID, self.request_id))
        if self.policy.tells_priority and operation.generates:
            changed += forwarding.priority(self._headers, self.facts, self.caller, batch=bool(self.batch_id))
        answer = Continue(
            Phase.REQUEST_BODY if needed_body else Phase.REQUEST_HEAD,
            set_headers=changed,
            remove_headers=forwarding.removed_headers(self._headers, self.caller, changed),
            body=body.data if isinstance(body.data, bytes) else None,
            large_body=body.data if isinstance(body.data, Rope) else None,
            destination=forwarding.destination(placement, self.policy.destinations, once=bool(transfer)),
            dynamic_metadata=forwarding.dynamic_metadata_of(
                operation,
                self.request_id,
                placement.model,
                self.caller,
                body,
                batch_id=self.batch_id,
                response_id=event.response_id or self._match.parameters.get("response_id", ""),
                reservation=self.reservation,
            )
            if self.policy.metering
            else None,
        )
        waits = forwarding.wait_seconds(self._asked_wait, self.policy.max_wait_seconds)
        return RequestPhase.PLACED, (fact, answer, WaitFor(max(waits - spent, 0.0)))

    @property
    def _asked_wait(self) -> str | None:
        """How long the client says that it waits."""
        return self._headers.get(headers.READ_TIMEOUT) or self._headers.get(headers.HEAD_TIMEOUT)


_STEPS: Final[Mapping[type, Callable[[RequestSide, Any], Step]]] = {
    events.RequestHead: RequestSide._on_head,
    events.RequestBody: RequestSide._on_body,
    events.LargeRequestBody: RequestSide._on_body,
    events.RequestTrailers: RequestSide._on_trailers,
    asks.BodyRead: RequestSide._on_body_read,
    asks.Admitted: RequestSide._on_admitted,
    asks.Described: RequestSide._on_described,
    asks.Reserved: RequestSide._on_reserved,
    asks.Placed: RequestSide._on_placed,
    asks.PrefillDone: RequestSide._on_prefilled,
    asks.Refused: RequestSide._on_refused,
}
