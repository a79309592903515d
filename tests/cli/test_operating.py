"""The commands `engines`, `operations` and `adapters` at an API that answers from a table."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.cli.admin_client import AdminClient, AdminError
from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.main import parser_for

Captured = pytest.CaptureFixture[str]

ENGINE = {
    "id": "uid-1", "address": "10.0.0.1:8000", "name": "e1", "models": [], "health": "ready", "detail": "",
    "cordoned": True, "drain": {"complete": True, "in_flight": 0}, "labels": {}, "weight_version": None,
}  # fmt: skip
RUN = {"id": "op_1", "status": "succeeded", "endpoints": []}


class Api:
    """Answers by `METHOD /path?query`, below `/admin/v1`, the last one again and again; what was asked for is kept."""

    def __init__(self, answers: Mapping[str, list[Any]]) -> None:
        self.answers = {asked: list(found) for asked, found in answers.items()}
        self.asked: list[str] = []

    def answer(self, asked: str) -> Any:
        """An object, or a status, or the text of an event stream."""
        self.asked.append(asked)
        found = self.answers.get(asked, [404])
        return found.pop(0) if len(found) > 1 else found[0]


def run(api: Api, *words: str) -> int:
    """The exit code of a command at the API."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = api.answer(f"{self.command} {self.path.removeprefix('/admin/v1')}")
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("content-type", "text/event-stream" if isinstance(answer, str) else "application/json")
            self.end_headers()
            self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing."""

    args = parser_for(words[0]).parse_args(words)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            return int(args.verb_run(AdminClient(f"http://127.0.0.1:{server.server_port}/v1", "any"), args))
        finally:
            server.shutdown()
            thread.join()


def cordon(number: int, endpoint: str | None = None, **changes: object) -> dict[str, object]:
    fields = {"endpoint": endpoint, "pod": None, "selector": None, "reason": "", "operation_run": None, "by": "admin"}
    return {"id": f"c{number}", "object": "cordon"} | fields | changes


def test_uncordon_finds_cordons_of_all_pages_and_only_by_what_they_name() -> None:
    first = {"data": [cordon(1, "uid-2", reason="e1", by="e1")], "has_more": True, "last_id": "c1"}
    second = {"data": [cordon(2, "uid-1")], "has_more": False, "last_id": "c2"}
    api = Api({
        "GET /engines": [{"data": [ENGINE]}],
        "GET /cordons?limit=1000": [first], "GET /cordons?limit=1000&after=c1": [second],
        "DELETE /cordons/c1": [{}], "DELETE /cordons/c2": [{}],
    })  # fmt: skip
    assert run(api, "engines", "uncordon", "e1") == 0
    assert [asked for asked in api.asked if asked.startswith("DELETE")] == ["DELETE /cordons/c2"]


def test_uncordon_ends_the_cordon_of_an_endpoint_that_has_left_the_fleet() -> None:
    page = {"data": [cordon(1, "10.0.0.9:8000")], "has_more": False, "last_id": "c1"}
    api = Api({
        "GET /engines": [{"data": [ENGINE]}], "GET /cordons?limit=1000": [page], "DELETE /cordons/c1": [{}],
    })  # fmt: skip
    assert run(api, "engines", "uncordon", "10.0.0.9:8000") == 0
    assert api.asked[-1] == "DELETE /cordons/c1"
    with pytest.raises(UsageError, match=r"no cordon names 10\.0\.0\.8"):
        run(api, "engines", "uncordon", "10.0.0.8:8000")


def test_drain_prints_the_engine_as_json_at_its_end(capsys: Captured) -> None:
    assert run(Api({"GET /engines": [{"data": [ENGINE]}]}), "engines", "drain", "e1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == ENGINE
    busy = ENGINE | {"drain": {"complete": False, "in_flight": 3}}
    assert run(Api({"GET /engines": [{"data": [busy]}]}), "engines", "drain", "e1", "--json", "--wait", "0") == 1
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == (
        busy, "e1 is cordoned, and stays so after Ctrl-C; waiting for its requests\ne1 still has 3 requests\n",
    )  # fmt: skip


def test_what_only_reads_is_asked_again_when_the_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aibrix_extproc.cli.admin_client._PAUSES", (0, 0))
    api = Api({"GET /engines": [503, 502, {"data": [ENGINE]}], "POST /cordons": [503]})
    with pytest.raises(AdminError) as refused:
        run(api, "engines", "cordon", "e1")
    assert refused.value.status == 503
    assert api.asked == ["GET /engines"] * 3 + ["POST /cordons"]


def test_what_answers_without_an_error_of_the_api_is_named() -> None:
    with pytest.raises(AdminError, match=r"http://127.0.0.1:\d+/admin/v1/engines answered HTTP 404 .*; see --base-url"):
        run(Api({"GET /engines": [404]}), "engines", "list")


def test_an_adapter_that_stays_loaded_is_said(capsys: Captured) -> None:
    api = Api({"DELETE /adapters/a": [{}]})
    assert run(api, "adapters", "unload", "a", "--timeout", "0") == 1
    assert "an engine still has it" in capsys.readouterr().err


def test_a_label_without_a_value_is_refused_before_anything_is_asked() -> None:
    api = Api({})
    with pytest.raises(UsageError, match="--label gpu is no KEY=VALUE"):
        run(api, "engines", "sleep", "--label", "gpu")
    assert api.asked == []


def test_an_id_stays_one_part_of_the_path() -> None:
    for verb, asked in (("show", "GET /operations/..%2Fengines"), ("cancel", "POST /operations/..%2Fengines/cancel")):
        api = Api({asked: [RUN | {"status": "cancelled"}]})
        assert run(api, "operations", verb, "../engines", "--json") == 0
        assert api.asked == [asked]


@pytest.mark.parametrize(("status", "said"), [("running", "is running, and ends"), ("succeeded", "is succeeded")])
def test_cancel_says_whether_the_operation_still_has_to_end(status: str, said: str, capsys: Captured) -> None:
    api = Api({"POST /operations/op_1/cancel": [RUN | {"status": status}]})
    assert run(api, "operations", "cancel", "op_1") == 0
    assert capsys.readouterr().out == f"op_1 {said}\n"


@pytest.mark.parametrize("name", ["../callers/team-a", "a/../../callers/b", ".", "a//b"])
def test_a_name_of_an_adapter_does_not_lead_to_other_paths(name: str) -> None:
    api = Api({})
    for words in (("show", name), ("unload", name), ("load", name, "/a", "--base", "m")):
        with pytest.raises(UsageError, match="no adapter has the name"):
            run(api, "adapters", *words)
    assert api.asked == []


def test_follow_goes_on_when_a_gateway_says_that_the_service_is_away(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aibrix_extproc.cli.engine_api._RETRY_SECONDS", 0)
    event = f"data: {json.dumps(RUN)}\n\n"
    api = Api({"GET /operations/op_1": [RUN | {"status": "running"}], "GET /operations/op_1/events": [503, 503, event]})
    assert run(api, "operations", "follow", "op_1", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == RUN
    assert captured.err.count("does not answer") == 1


def test_sync_prints_one_list(tmp_path: Path, capsys: Captured) -> None:
    rows = [{"name": name, "path": f"/{name}", "base": "m"} for name in ("a", "b")]
    file = tmp_path / "adapters.json"
    file.write_text(json.dumps({"adapters": rows}))
    shown = [
        {"id": row["name"], "path": row["path"], "base": "m", "replicas": "all", "placement": {}, "pinned": False,
         "lazy": False, "source": "", "state": "loaded", "loaded": 1, "wanted": 1}
        for row in rows
    ]  # fmt: skip
    api = Api({
        "GET /adapters?limit=1000": [{"data": shown, "has_more": False}],
        "GET /adapters/a": [shown[0]], "GET /adapters/b": [shown[1]],
    })  # fmt: skip
    for more in ((), ("--no-wait",)):
        assert run(api, "adapters", "sync", str(file), "--json", *more) == 0
        assert json.loads(capsys.readouterr().out) == shown
