"""Log lines on standard error, one JSON object each or text. Never a prompt, a key or a client's header."""

import datetime
import json
import logging
import sys
from hashlib import blake2b
from typing import Final

from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Outcome
from aibrix_extproc.core.exchange.records import ExchangeRecord

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
exchanges = logging.getLogger("aibrix_extproc.exchanges")
_FAILURES: Final = frozenset({Outcome.ENVOY_ERROR, Outcome.INTERNAL_ERROR})


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For people at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its fields behind it."""
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        return f"{super().format(record)} {fields}".rstrip()


def configure(level: str, style: str) -> None:
    """Send everything to standard error in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log_exchange(fact: Finished, *, every: bool) -> None:
    """A line for an exchange that failed on our side of the engines, or for every one."""
    failed = fact.outcome in _FAILURES or fact.status >= 500
    if not (every or failed):
        return
    total = None if fact.started_at is None else round(fact.ended_at - fact.started_at, 6)
    exchanges.log(
        logging.WARNING if failed else logging.INFO,
        "exchange finished",
        extra={
            "request_id": fact.request_id,
            "operation": fact.operation,
            "model": fact.placement.model if fact.placement else None,
            "caller": fact.caller,
            "stream": fact.stream,
            "status": fact.status,
            "outcome": fact.outcome.value,
            "cause": fact.cause.value,
            "problem": fact.problem,
            "upstream": fact.upstream_address or None,
            "seconds": total,
        },
    )


def log_prefix(fact: Assigned) -> None:
    """A line with the blocks of a prompt: ids, and bytes up to the end of each.

    Ids are digests of hashes with a secret seed, so they tell nothing but which prompts begin alike.
    """
    if fact.query is not None and fact.query.prefix is not None:
        chain = fact.query.prefix
        exchanges.info(
            "exchange placed",
            extra={
                "request_id": fact.request_id,
                "prefix": [_block_id(one) for one in chain.hashes],
                "prefix_ends": list(chain.ends),
            },
        )


def _block_id(block: int) -> int:
    return int.from_bytes(blake2b(block.to_bytes(8), digest_size=6).digest())


def log_record(record: ExchangeRecord) -> None:
    """A line for a record of Envoy's access log."""
    usage = record.usage
    exchanges.info(
        "exchange recorded",
        extra={
            "request_id": record.request_id,
            "operation": record.operation,
            "model": record.model,
            "caller": record.caller,
            "status": record.status,
            "details": record.details,
            "flags": record.flags,
            "stream_end": record.stream_end.value if record.stream_end else None,
            "error": record.error or None,
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "cached_tokens": usage.cached_tokens if usage else None,
            "audio_seconds": record.audio_seconds or None,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "upstream": record.upstream_address or None,
            "attempts": record.attempts,
            "first_byte_seconds": record.first_byte_seconds,
            "seconds": record.total_seconds,
        },
    )
