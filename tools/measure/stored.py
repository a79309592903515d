"""Measures the fields of stored objects: files, uploads and batches of our own service, and responses of engines.

`stored.toml` has, for each operation, where its fields stand (`place`), a request that works (`base`), and for each
field a good value, a wrong one and values at its limits. `@file`, `@upload`, `@part`, `@batch` and `@response` are ids
of new objects, `@md5` is that of a file's content.
"""

import hashlib
import http.client
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from tools.measure.judge import Answer, differences, judged, outcomes, read
from tools.measure.plan import shown

Json = dict[str, Any]

NAME: Final = "gateway"
MODEL: Final = "chat"
_BOUNDARY: Final = "measured"
_SECONDS: Final = 60.0
_LINE: Final = json.dumps({
    "custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
    "body": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 1},
})  # fmt: skip
_ROWS: Final = {row.id: row for row in OPERATIONS}


@dataclass(frozen=True, slots=True)
class StoredProbe:
    """One field: its path, a good value, one of a wrong type (None: there is none), and values to try."""

    path: str
    valid: Any
    wrong: Any
    bounds: tuple[Any, ...]
    required: bool


@cache
def table() -> Mapping[str, Json]:
    """The operations, by id."""
    return tomllib.loads((Path(__file__).parent / "stored.toml").read_text("utf-8"))


def stored_probes(operation: str) -> Iterator[StoredProbe]:
    """The fields of an operation."""
    base = table()[operation].get("base", {})
    for path, row in table()[operation]["fields"].items():
        required = path in base and "against" not in row
        yield StoredProbe(path, row["valid"], row.get("wrong"), tuple(row.get("bounds", ())), required)


class StoredMeasurement:
    """Measures against one address."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS)
        self._makers: Mapping[str, Callable[[], str]] = {
            "@file": self._new_file, "@upload": self._new_upload, "@part": self._new_part, "@batch": self._new_batch,
            "@response": self._new_response, "@md5": _md5,
        }  # fmt: skip
        self._upload = ""
        self.asked = 0

    def operation(self, name: str) -> tuple[str, Json]:
        """Where the fields of an operation stand, and the verdict on each."""
        row = table()[name]
        base: Json = row.get("base", {})
        first, again = self._ask(name, base), self._ask(name, base)
        noise = differences(first, again)
        found = {}
        for probe in stored_probes(name):
            control = {key: value for key, value in base.items() if key != probe.path}
            if "against" in row["fields"][probe.path]:
                control[probe.path] = row["fields"][probe.path]["against"]
            wrong = None if probe.wrong is None else self._ask(name, _with(base, probe.path, probe.wrong))
            valid = self._ask(name, _with(base, probe.path, probe.valid))  # first: what it makes is in the other's list
            verdict = judged(self._ask(name, control), valid, wrong, noise, required=probe.required)
            why = row["fields"][probe.path].get("why")
            if why and verdict["verdict"] != "honoured":
                verdict["why"] = why
            if wrong is not None:
                verdict["wrong"] = wrong.error or "ok"
            if probe.bounds:
                tried = {shown(value): self._ask(name, _with(base, probe.path, value)) for value in probe.bounds}
                verdict["bounds"] = outcomes(tried)
            found[probe.path] = verdict
        return row["place"], found

    def _ask(self, name: str, values: Json) -> Answer:
        row, place = _ROWS[name], table()[name]["place"]
        path = row.path
        for word in ("@upload", "@response"):
            if table()[name].get("in_path") == word:
                path = f"{path[: path.index('{')]}{self._makers[word]()}{path[path.index('}') + 1 :]}"
        sent = {key: self._filled(value) for key, value in values.items()}
        if place == "query":
            return self._send(row.method, f"{path}?{urlencode(sent)}" if sent else path)
        if table()[name].get("form"):
            return self._send(row.method, path, *_form(sent, table()[name]["form"]))
        return self._send(row.method, path, json.dumps(_nested(sent)).encode(), "application/json")

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        return self._makers[value]() if isinstance(value, str) and value in self._makers else value

    def _new_file(self) -> str:
        return self._made("/v1/files", *_form({"purpose": "batch"}, "file"))

    def _new_upload(self) -> str:
        body = {"bytes": len(_LINE), "filename": "a.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
        self._upload = self._made("/v1/uploads", json.dumps(body).encode(), "application/json")
        return self._upload

    def _new_part(self) -> str:
        return self._made(f"/v1/uploads/{quote(self._upload)}/parts", *_form({}, "data"))

    def _new_batch(self) -> str:
        body = {"input_file_id": self._new_file(), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return self._made("/v1/batches", json.dumps(body).encode(), "application/json")

    def _new_response(self) -> str:
        body = {"model": MODEL, "input": "Hi", "max_output_tokens": 16}
        return self._made("/v1/responses", json.dumps(body).encode(), "application/json")

    def _made(self, path: str, body: bytes, kind: str) -> str:
        answer = self._send("POST", path, body, kind)
        assert answer.good, (path, answer)
        return str(answer.body["id"])

    def _send(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Answer:
        self._connection.request(method, path, body, {"content-type": kind} if kind else {})
        response = self._connection.getresponse()
        self.asked += 1
        return read(response.status, response.getheader("content-type", ""), response.read())


def _md5() -> str:
    return hashlib.md5(_LINE.encode(), usedforsecurity=False).hexdigest()


def _with(base: Json, path: str, value: Any) -> Json:
    """The request with another value of one field, and what the object around that field needs."""
    around = path.rpartition(".")[0]
    beside = {"anchor": "created_at", "seconds": 3600}
    needed = {f"{around}.{name}": one for name, one in beside.items()} if around else {}
    return {**base, **needed, path: value}


def _nested(values: Json) -> Json:
    made: Json = {}
    for path, value in values.items():
        outer, _, inner = path.partition(".")
        if inner:
            made.setdefault(outer, {})[inner] = value
        else:
            made[path] = value
    return made


def _form(values: Json, name: str) -> tuple[bytes, str]:
    """A form with a file, and its media type. `a.b` is the field `a[b]`, as SDKs send it."""
    parts = []
    for path, value in values.items():
        field = f"{path.replace('.', '[')}]" if "." in path else path
        parts.append(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n')
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jsonl"\r\n\r\n'
    body = "".join((*parts, head, _LINE, f"\r\n--{_BOUNDARY}--\r\n")).encode()
    return body, f"multipart/form-data; boundary={_BOUNDARY}"
