"""The table of cases: every acceptance ID that can be asked from outside, by group, and why the others cannot."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.conformance import fields
from aibrix_extproc.conformance.case import Case
from aibrix_extproc.conformance.cases import (
    audio,
    auth,
    batches,
    bodies,
    chat,
    errors,
    headers,
    interfaces,
    limits,
    models,
    operations,
    requests,
    responses,
    stored_files,
    urls,
    usage,
    vectors,
)
from aibrix_extproc.conformance.target import UsageError

GROUPS: Final[Mapping[str, tuple[Case, ...]]] = MappingProxyType(
    {
        "auth": auth.CASES,
        "headers": headers.CASES,
        "urls": urls.CASES,
        "requests": tuple(sorted((*requests.CASES, *bodies.CASES), key=lambda case: case.id)),
        "chat": chat.CASES,
        "completions": chat.COMPLETION_CASES,
        "responses": responses.CASES,
        "embeddings": vectors.EMBEDDING_CASES,
        "rerank": vectors.RERANK_CASES,
        "audio": audio.CASES,
        "tokens": vectors.TOKEN_CASES,
        "errors": errors.CASES,
        "models": models.CASES,
        "files": stored_files.FILE_CASES,
        "uploads": stored_files.UPLOAD_CASES,
        "batches": batches.CASES,
        "operations": operations.CASES,
        "usage": usage.CASES,
        "limits": limits.CASES,
        "interfaces": interfaces.CASES,
    }
)
GROUP_OF: Final[Mapping[str, str]] = MappingProxyType(
    {case.id: group for group, cases in GROUPS.items() for case in cases}
)
CASES: Final[tuple[Case, ...]] = tuple(case for cases in GROUPS.values() for case in cases)


def group_of(case: Case) -> str:
    """The group of a case; those of fields are in none of the table's."""
    return GROUP_OF.get(case.id, fields.GROUP)


NOT_ASKED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # reason: acceptance IDs
        "only an engine knows what reached it": ("AUTH-09", "CHAT-10"),
        "an engine would have to cut its answer on purpose": ("CHAT-12", "CHAT-13", "RESP-09"),
        "an engine or the gateway would have to fail on purpose": (
            "RESP-06", *(f"ERR-{number:02}" for number in (*range(1, 10), 13, 14, 15, 16, 18, 22)),
        ),
        "needs limits set for the occasion": (
            "ERR-11", "ERR-12", "LIM-03", "LIM-04", "LIM-05", "LIM-09", "LIM-11", "LIM-12",
        ),
        "is LIM-02": ("ERR-10",),
        "Redis, engines or gateways would have to fail on purpose": ("LIM-06", "LIM-07", "LIM-08", "LIM-10"),
        "only an engine knows what reached it, or only the gateway what it costs": ("LIM-13", "LIM-14"),
        "needs the key of another tenant": ("AUTH-06",),
        "needs an hour, a day or a clock that can be moved": ("FILE-15", "BAT-22"),
        "is part of BAT-17, where the batch is at hand": ("BAT-19",),
        "workers or engines would have to fail on purpose": ("BAT-25", "BAT-26"),
        "only the ledger has the records": ("USE-01", "USE-02", "USE-03", "USE-06"),
        "is a measurement under load": ("BAT-29", "BAT-30"),
        "the fleet would have to change": ("MOD-06", "IF-05"),
        "needs recorded requests and answers": ("IF-03",),
        "an engine would have to restart": ("OPS-07",),
        "only the gateway knows what it reads of an engine's metrics": ("OPS-08", "OPS-09"),
    }
)  # fmt: skip


def chosen(select: list[str], only: list[str], skip: list[str]) -> tuple[Case, ...]:
    """Cases of these groups, of these IDs, without those; UsageError names what is none. Empty lists mean all."""
    for word in select:
        if word not in GROUPS:
            raise UsageError(f"--select {word}: no such group; there are {', '.join(GROUPS)}")
    for word in (*only, *skip):
        if word not in GROUP_OF:
            raise UsageError(f"{word}: no such case; see --list")
    return tuple(
        case for case in CASES
        if (not select or GROUP_OF[case.id] in select) and (not only or case.id in only) and case.id not in skip
    )  # fmt: skip
