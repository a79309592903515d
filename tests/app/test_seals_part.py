"""Entries of the access log that prove that one of our processes has placed their exchange, and attacks on that."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import HTTPAccessLogEntry, StreamAccessLogsMessage
from aibrix_extproc.adapters.accesslog.receive import AccessLogReceiver
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.parts.seals import LIFE_SECONDS, NoteSeals
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import Pace
from aibrix_extproc.core.exchange.outputs import DynamicMetadata
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE, SEALED
from tests.waiting import until

FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)
OLD, NEW = "old-key-" + "o" * 32, "new-key-" + "n" * 32
NOTES = DynamicMetadata("1f0c9a52-0000-4000-8000-000000000001", "chat_completion", "m", "me", "", hide_usage=False)
PLAIN: dict[str, Any] = {"stream": "", "hide_usage": False}
REFUSED = "aibrix_extproc_access_log_refused_total"
TOKENS = "aibrix_extproc_tokens_total"


class Replica:
    """A process that places exchanges and is told how they ended."""

    def __init__(self, file: Path | None = None) -> None:
        self.now = 1_800_000_000.0
        self.metrics = Metrics()
        self.metrics.watch_names(lambda name: name == "m", lambda: {"me"})
        self.seals = NoteSeals(file, lambda: self.now, self.metrics.refused_record, pace=FAST)
        self.receiver = AccessLogReceiver(self.metrics.charged, self.metrics.malformed_record, admit=self.seals.admit)

    def tell(self, *notes: dict[str, Any], tokens: int = 10) -> None:
        batch = StreamAccessLogsMessage()
        batch.http_logs.log_entry.extend(an_entry(one, tokens) for one in notes)
        self.receiver.take(batch.SerializeToString())

    def placed(self) -> dict[str, Any]:
        """The notes of a placement, as Envoy keeps them."""
        sealed = self.seals.seal(NOTES).sealed.decode()
        return {"stream": NOTES.stream, "hide_usage": NOTES.hide_usage, SEALED: sealed}

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def charged(self) -> float:
        return sum(
            sample.value for family in self.metrics.registry.collect() for sample in family.samples
            if sample.name == TOKENS and sample.labels["kind"] == "output"
        )  # fmt: skip


def made_up(caller: str) -> str:
    """What somebody may write who knows the form and has no key."""
    return "A" * 24 + json.dumps([1_800_000_000, 1, 1, "r", "chat_completion", "m", caller, ""])


def an_entry(notes: dict[str, Any], tokens: int) -> HTTPAccessLogEntry:
    entry = HTTPAccessLogEntry()
    metadata = entry.common_properties.metadata.filter_metadata
    metadata[EXTPROC_NAMESPACE].update(notes)
    metadata[REPORT_NAMESPACE].update({REPORT_KEY: f"output_tokens={tokens}"})
    return entry


def test_entry_of_a_placed_exchange_is_charged() -> None:
    replica = Replica()
    replica.tell(replica.placed())
    assert replica.count(TOKENS, model="m", caller="me", kind="output") == 10


def test_forged_entry_charges_nobody() -> None:
    replica, elsewhere = Replica(), Replica()
    replica.tell(PLAIN, PLAIN | {SEALED: 5}, PLAIN | {SEALED: ""}, tokens=2**53)
    replica.tell(PLAIN | {SEALED: made_up("me")}, PLAIN | {SEALED: "A"}, elsewhere.placed(), tokens=2**53)
    assert replica.charged == 0
    assert replica.count(REFUSED, reason="unsealed") == 3
    assert replica.count(REFUSED, reason="forged") == 3


async def test_replaced_keys_are_handed_to_those_who_use_them(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    seals = NoteSeals(file, lambda: 0.0, lambda _: None, pace=FAST)
    assert list(seals.secrets) == [OLD.encode()]
    handed: asyncio.Queue[tuple[bytes, ...]] = asyncio.Queue()
    seals.subscribe(handed.put_nowait)
    following = asyncio.ensure_future(seals.run())
    try:
        file.write_text(f"{NEW}\n{OLD}\n")
        assert await asyncio.wait_for(handed.get(), 60) == (NEW.encode(), OLD.encode())
        assert list(seals.secrets) == [NEW.encode(), OLD.encode()]
    finally:
        following.cancel()


def test_altered_seal_charges_nobody() -> None:
    """At whatever place: the code in front, the caller, the number, the end."""
    replica = Replica()
    genuine = replica.placed()
    text = genuine[SEALED]
    altered = [f"{text[:at]}{'A' if text[at] != 'A' else 'B'}{text[at + 1 :]}" for at in range(len(text))]
    replica.tell(*(genuine | {SEALED: one} for one in (*altered, text[:-1], text[1:], f"{text} ", text * 2)))
    assert replica.charged == 0
    assert replica.count(REFUSED, reason="forged") == len(text) + 4
    replica.tell(genuine)
    assert replica.charged == 10, "and none of them has used the seal up"


@pytest.mark.parametrize("name", ["caller", "model", "operation", "request_id", "stream", "hide_usage"])
def test_altered_plain_notes_change_nothing_of_what_is_charged(name: str) -> None:
    replica = Replica()
    replica.tell(replica.placed() | {name: "other"})
    replica.tell({SEALED: replica.placed()[SEALED]})
    assert replica.charged == 20
    assert replica.count(TOKENS, model="m", caller="me", kind="output") == 20


def test_repeated_entry_is_charged_once() -> None:
    replica = Replica()
    genuine = replica.placed()
    replica.tell(*[genuine] * 50)
    assert replica.charged == 10
    assert replica.count(REFUSED, reason="repeated") == 49


def test_exchanges_that_share_a_request_id_are_all_charged() -> None:
    replica = Replica()
    replica.tell(*(replica.placed() for _ in range(3)))
    assert replica.charged == 30


def test_entry_of_another_replica_is_charged_where_it_arrives(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    one, other = Replica(file), Replica(file)
    other.tell(one.placed())
    assert other.charged == 10


def test_seal_ends() -> None:
    replica = Replica()
    genuine = replica.placed()
    replica.now += LIFE_SECONDS + 1
    replica.tell(genuine)
    assert (replica.charged, replica.count(REFUSED, reason="expired")) == (0, 1)


def test_forged_callers_and_models_take_no_labels() -> None:
    """Whatever is sent: 20,000 forged callers, and honest ones are counted by name as before."""
    replica = Replica()
    for number in range(0, 20_000, 1000):
        replica.tell(
            *(PLAIN | {"caller": f"c-{one}", SEALED: made_up(f"c-{one}")} for one in range(number, number + 1000))
        )
    replica.tell(replica.placed())
    labels = {
        sample.labels["caller"] for family in replica.metrics.registry.collect() for sample in family.samples
        if sample.name == TOKENS
    }  # fmt: skip
    assert labels == {"me"}


async def test_keys_are_rotated_by_overlap_without_losing_an_entry(tmp_path: Path) -> None:
    """As with two replicas that read the file at different times: what one seals the other one opens at every step."""
    files = [tmp_path / "one", tmp_path / "other"]
    for file in files:
        file.write_text(OLD)
    replicas = [Replica(file) for file in files]
    running = [asyncio.ensure_future(one.seals.run()) for one in replicas]
    told = 0
    try:
        for keys in (f"{OLD}\n{NEW}", f"{NEW}\n{OLD}", NEW):
            for file, replica in zip(files, replicas, strict=True):
                file.write_text(keys)
                await until(lambda replica=replica: replica.seals._secrets == tuple(keys.encode().split()))  # type: ignore[misc]  # noqa: B023
                for sender, receiver in (replicas, reversed(replicas)):
                    receiver.tell(sender.placed())
                    told += 10
        assert sum(one.charged for one in replicas) == told
        late = replicas[0].placed()
        files[1].write_text(OLD)
        await until(lambda: replicas[1].seals._secrets == (OLD.encode(),))
        replicas[1].tell(late)
        assert replicas[1].count(REFUSED, reason="forged") == 1
    finally:
        for task in running:
            task.cancel()


async def test_broken_edit_keeps_the_last_good_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    replica = Replica(file)
    running = asyncio.ensure_future(replica.seals.run())
    try:
        await until(lambda: not replica.seals.degraded)
        file.write_text("short")
        await until(lambda: replica.seals.degraded)
        assert "line 1: not a key" in str(replica.seals.report()["error"])
        replica.tell(replica.placed())
        assert replica.charged == 10
    finally:
        running.cancel()


def test_unusable_file_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        Replica(tmp_path / "none")
