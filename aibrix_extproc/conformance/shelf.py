"""Files and batches that a case makes, and their removal when the case ends."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Mismatch
from aibrix_extproc.conformance.expect import check, expect_json
from aibrix_extproc.conformance.wire import Answer

CHAT_URL: Final = "/v1/chat/completions"
ENDED: Final = ("completed", "failed", "expired", "cancelled")
STATES: Final = ("validating", "in_progress", "finalizing", "cancelling", *ENDED)
MADE_BY: Final = "conformance"  # names of files begin with it, so that what a killed run leaves can be found
CLEANING_SECONDS: Final = 15.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0


class Shelf:
    """What one case has made, with one SDK client."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client = bench.client()
        self._files: list[str] = []
        self._batches: list[str] = []

    def name(self, ending: str = ".jsonl") -> str:
        """A file name that nobody else uses."""
        return f"{MADE_BY}-{uuid.uuid4().hex[:12]}{ending}"

    def file(self, content: bytes, purpose: str = "batch", name: str = "", **fields: Any) -> Any:
        """A stored file."""
        made = self.client.files.create(file=(name or self.name(), content), purpose=purpose, **fields)
        check(isinstance(made.id, str) and made.id, "a file with an id", made)
        self.keep(made.id)
        return made

    def raw_file(self, answer: Answer) -> dict[str, Any]:
        """The file that a raw request has made."""
        made = expect_json(answer)
        check(isinstance(made.get("id"), str), "a file with an id", answer)
        self.keep(made["id"])
        return made

    def keep(self, file_id: str | None) -> None:
        """Remove this file too at the end."""
        if isinstance(file_id, str) and file_id:
            self._files.append(file_id)

    def batch(self, lines: Iterable[str] | bytes, **fields: Any) -> Any:
        """A batch of these lines, just created."""
        content = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
        given = {"input_file_id": fields.pop("input_file_id", None) or self.file(content).id}
        given |= {"endpoint": CHAT_URL, "completion_window": "24h", **fields}
        made = self.client.batches.create(**given)
        check(isinstance(made.id, str) and made.id, "a batch with an id", made)
        self._batches.append(made.id)
        check(made.status in STATES, "a batch with a status", made)
        return made

    def until(self, status: str, batch: Any) -> Any:
        """The batch when it has this status or has ended; Mismatch if the case's time is over before."""
        pause = _FIRST_PAUSE
        while batch.status not in (status, *ENDED):
            check(batch.status in STATES, f"a status of {', '.join(STATES)}", batch.status)
            if self.bench.seconds_left < 2 * pause:
                raise Mismatch("a batch that ends in time (or a longer --timeout)", f"it is still {batch.status}")
            time.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_PAUSE)
            batch = self.client.batches.retrieve(batch.id)
        return batch

    def ended(self, batch: Any) -> Any:
        """The batch when it has ended."""
        done = self.until("", batch)
        self.keep(done.output_file_id)
        self.keep(done.error_file_id)
        return done

    def rows(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a result file; none of no file."""
        if file_id is None:
            return []
        content = self.client.files.content(file_id).read()
        try:
            return [dict(json.loads(line)) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            raise Mismatch("a file of JSON objects, one a line", repr(content[:500])) from error

    def clear(self) -> None:
        """Cancel batches that run and delete files. Failures are for other cases to find."""
        if not self._batches and not self._files:
            return
        with contextlib.closing(self.bench.client(timeout=CLEANING_SECONDS)) as client:
            for batch_id in self._batches:
                with contextlib.suppress(Exception):
                    batch = client.batches.retrieve(batch_id)
                    self.keep(batch.output_file_id)
                    self.keep(batch.error_file_id)
                    if batch.status in STATES and batch.status not in ENDED:
                        client.batches.cancel(batch_id)
            for file_id in dict.fromkeys(self._files):
                with contextlib.suppress(Exception):
                    client.files.delete(file_id)


@contextlib.contextmanager
def shelf(bench: Bench) -> Iterator[Shelf]:
    """A shelf that is cleared at the end."""
    made = Shelf(bench)
    try:
        yield made
    finally:
        made.clear()


def line(custom_id: str, body: Mapping[str, object], url: str = CHAT_URL) -> str:
    """One request of a batch's input."""
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})
