"""The request's half of an exchange: match, admit, read, place, forward."""

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import (
    Authenticate,
    Continue,
    Describe,
    Headers,
    Immediate,
    Outcome,
    Output,
    Phase,
    Place,
    Taken,
)
from aibrix_extproc.core.exchange.states import REQUEST_TABLE, ProtocolViolation, RequestPhase
from aibrix_extproc.core.fleet.placement import Placement, RouteQuery
from aibrix_extproc.core.openai import cors, headers, request
from aibrix_extproc.core.openai.caller import ANYONE, Caller
from aibrix_extproc.core.openai.errors import Problem, shape
from aibrix_extproc.core.openai.multipart import form_fields
from aibrix_extproc.core.openai.operation_rows import ROUTER
from aibrix_extproc.core.openai.operations import Action, Match, ModelIn, Operation, Stream, shown, unknown_url
from aibrix_extproc.core.openai.paths import normalise

AUDIO_FORM_LIMIT_BYTES = 26_214_400  # OpenAI counts the whole form


class RequestSide:
    """Phases of the request. What it learns is read by the response side and by the closing fact."""

    def __init__(self, max_body_bytes: int, metering: bool) -> None:
        self._max_body_bytes = max_body_bytes
        self._metering = metering
        self._metered_body: bytes | None = None  # held until there is a placement
        self._phase = RequestPhase.IDLE
        self._headers: dict[str, str] = {}
        self._path = ""
        self._query_string = ""
        self._match: Match | None = None
        self._unmatched: Problem | None = None
        self._end_of_stream = False
        self.caller: Caller = ANYONE
        self.request_id = ""
        self.origin: str | None = None
        self.facts: request.RequestFacts | None = None
        self.placement: Placement | None = None
        self.problem: str | None = None
        self.answered: Immediate | None = None
        self.outcome = Outcome.CANCELLED
        self.body_bytes = 0
        self.started_at: float | None = None
        self.placed_at: float | None = None

    @property
    def phase(self) -> RequestPhase:
        """Where the request stands."""
        return self._phase

    @property
    def operation(self) -> Operation | None:
        """The matched row, None for an unknown URL."""
        return self._match.operation if self._match is not None else None

    @property
    def method(self) -> str:
        """The HTTP method as sent."""
        return self._headers.get(":method", "")

    @property
    def path(self) -> str:
        """The normalised path, without the query string."""
        return self._path

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        """Take one event of the request's direction."""
        key = (self._phase, type(event))
        allowed = REQUEST_TABLE.get(key)
        if allowed is None:
            raise ProtocolViolation(f"{type(event).__name__} while the request is {self._phase}")
        phase, outputs = self._step(event)
        if phase not in allowed:
            raise AssertionError(f"{phase} is no successor of {key}")
        self._phase = phase
        return outputs

    def refuse(self, problem: Problem, outcome: Outcome = Outcome.REFUSED) -> Immediate:
        """The final answer for a problem, remembered for the closing fact."""
        shaped = shape(problem)
        self.problem, self.outcome = problem.key, outcome
        return self._finish(shaped.status, shaped.headers, shaped.body, problem.key)

    def _finish(self, status: int, extra: Headers, body: bytes, reason: str) -> Immediate:
        answer = Immediate(status, (*extra, *self.own_headers()), body, f"ext_proc_{reason}")
        self.answered = answer
        return answer

    def own_headers(self) -> Headers:
        """What every answer carries, ours or an engine's."""
        own: Headers = ((headers.REQUEST_ID, self.request_id), ("openai-version", headers.OPENAI_VERSION))
        return own if self.origin is None else (*own, *cors.response_headers(self.origin))

    def _step(self, event: events.Event) -> tuple[RequestPhase, tuple[Output, ...]]:
        match event:
            case events.RequestHead():
                return self._on_head(event)
            case events.RequestBody():
                return self._on_body(event)
            case events.Placed():
                return self._on_placed(event)
            case events.Admitted():
                return self._on_admitted(event)
            case events.Answered():
                self.outcome = Outcome.ANSWERED
                answer = self._finish(event.status, event.headers, event.body, "answered")
                return RequestPhase.ANSWERED, (answer,)
            case events.Refused():
                return RequestPhase.ANSWERED, (self.refuse(event.problem),)
            case _:
                return self._phase, (Continue(Phase.REQUEST_TRAILERS),)

    def _on_head(self, event: events.RequestHead) -> tuple[RequestPhase, tuple[Output, ...]]:
        self.started_at = event.at
        self.request_id = event.request_id
        self._headers = dict(event.headers)
        self._end_of_stream = event.end_of_stream
        self.origin = event.headers.get("origin")
        raw_path = event.headers.get(":path", "")
        self._path = normalise(raw_path)
        self._query_string = raw_path.partition("?")[2]
        if self.method == "OPTIONS":
            self.outcome = Outcome.ANSWERED
            return RequestPhase.ANSWERED, (self._preflight(),)
        found = ROUTER.match(self.method, self._path)
        if isinstance(found, Match):
            self._match = found
        # Authentication comes first: an unknown URL asked with a bad key is a 401.
        self._unmatched = found if isinstance(found, Problem) else None
        return RequestPhase.ADMITTING, (
            Authenticate(self.operation, event.headers.get("authorization"), event.headers.get("x-api-key")),
        )

    def _preflight(self) -> Immediate:
        self.origin, origin = None, self.origin  # preflight headers already name it
        answer = self._finish(204, cors.preflight_headers({"origin": origin} if origin else {}), b"", "preflight")
        self.origin = origin
        return answer

    def _on_admitted(self, event: events.Admitted) -> tuple[RequestPhase, tuple[Output, ...]]:
        self.caller = event.caller
        if self._match is None:
            return RequestPhase.ANSWERED, (self.refuse(self._unmatched or unknown_url(self.method, self._path)),)
        operation = self._match.operation
        if operation.action is Action.LOCAL:
            return RequestPhase.DESCRIBING, (Describe(operation, self._match.parameters, self.caller),)
        problem = self._objection(operation)
        if problem is not None:
            return RequestPhase.ANSWERED, (self.refuse(problem),)
        forged = tuple(name for name in headers.RESERVED_REQUEST_HEADERS if name in self._headers)
        return RequestPhase.AWAITING_BODY, (Continue(Phase.REQUEST_HEAD, remove_headers=forged),)

    def _objection(self, operation: Operation) -> Problem | None:
        """Why a request is refused before its body is read."""
        if operation.action is Action.STICKY:
            held = shown(self._match.parameters.get("response_id", "")) if self._match else ""
            return Problem("not_found", {"message": f"Response with id '{held}' not found."})
        if operation.action is not Action.ROUTE:
            return unknown_url(self.method, self._path)
        encoding = self._headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            return Problem("unsupported_content_encoding", {"given": shown(encoding, 64)})
        return self._type_objection(operation) or self._size_objection(operation)

    def _type_objection(self, operation: Operation) -> Problem | None:
        given = self._headers.get("content-type", "")
        media_type = given.partition(";")[0].strip().lower()
        accepted = "multipart/form-data" if operation.model_in is ModelIn.FORM else "application/json"
        if media_type == accepted or self._end_of_stream:
            return Problem("malformed_json") if self._end_of_stream else None
        return Problem("unsupported_content_type", {"given": shown(given, 128), "accepted": accepted})

    def _size_objection(self, operation: Operation) -> Problem | None:
        return self._too_large(operation, headers.content_length(self._headers))

    def _too_large(self, operation: Operation, size: int) -> Problem | None:
        if operation.model_in is ModelIn.FORM and size > AUDIO_FORM_LIMIT_BYTES:
            return Problem("audio_too_large", {"limit": str(AUDIO_FORM_LIMIT_BYTES), "size": str(size)})
        if size > self._max_body_bytes:
            return Problem("request_too_large", {"limit": str(self._max_body_bytes)})
        return None

    def _on_body(self, event: events.RequestBody) -> tuple[RequestPhase, tuple[Output, ...]]:
        assert self._match is not None
        operation = self._match.operation
        self.body_bytes = len(event.data)
        facts = self._too_large(operation, self.body_bytes) or self._read(operation, event.data)
        if isinstance(facts, Problem):
            return RequestPhase.ANSWERED, (self.refuse(facts),)
        self.facts = facts
        if self._metering and facts.stream and not facts.includes_usage and operation.stream is Stream.DATA_DONE:
            self._metered_body = request.with_usage(event.data, facts)
        query = RouteQuery(model=facts.model, body_bytes=self.body_bytes)
        strategy = self._headers.get(headers.ROUTING_STRATEGY)
        return RequestPhase.PLACING, (Place(operation, query, strategy, self.caller),)

    def _read(self, operation: Operation, body: bytes) -> request.RequestFacts | Problem:
        if operation.model_in is ModelIn.JSON:
            return request.read_json(body)
        fields = form_fields(self._headers.get("content-type", ""), body)
        return fields if isinstance(fields, Problem) else request.read_fields(fields.values)

    def _on_placed(self, event: events.Placed) -> tuple[RequestPhase, tuple[Output, ...]]:
        self.placed_at = event.at
        self.placement = event.placement
        first = event.placement.first
        body, self._metered_body = self._metered_body, None
        return RequestPhase.PLACED, (
            Taken(first.identity),
            Continue(
                Phase.REQUEST_BODY,
                set_headers=self._upstream_headers(first.api_key, body),
                remove_headers=tuple(name for name in headers.NOT_FORWARDED if name in self._headers),
                body=body,
                destination=event.placement.destination,
                notes=self._notes(hide_usage=body is not None) if self._metering else (),
            ),
        )

    def _notes(self, *, hide_usage: bool) -> tuple[tuple[str, str | bool], ...]:
        """What Envoy's stream filter must know, and what makes its access log entry tell the whole story."""
        assert self._match is not None
        assert self.facts is not None
        operation = self._match.operation
        return (
            ("request_id", self.request_id),
            ("operation", operation.id),
            ("model", self.facts.model),
            ("caller", self.caller.name),
            ("stream", operation.stream.name.lower() if self.facts.stream else ""),
            ("hide_usage", hide_usage),
        )

    def _upstream_headers(self, api_key: str | None, body: bytes | None) -> Headers:
        changed: list[tuple[str, str]] = []
        if self._headers.get(headers.REQUEST_ID) != self.request_id:
            changed.append((headers.REQUEST_ID, self.request_id))
        path = f"{self._path}?{self._query_string}" if self._query_string else self._path
        if path != self._headers.get(":path"):
            changed.append((":path", path))
        if api_key is not None:
            changed.append(("authorization", f"Bearer {api_key}"))
        if body is not None and "content-length" in self._headers:
            changed.append(("content-length", str(len(body))))
        return tuple(changed)
