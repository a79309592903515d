"""What the reference says of files, uploads and batches."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.operation_rows import BATCH_OPERATIONS
from aibrix_extproc.core.openai.contract.stored import LISTED_PURPOSES, PURPOSES
from aibrix_extproc.core.openai.reference.operation_docs import (
    AFTER,
    BYTES,
    EVENTS,
    FORM,
    JSON,
    PAGE,
    Field,
    OperationDoc,
)

_PURPOSE: Final = Field("purpose", "string", "what the file is for", True, values=tuple(PURPOSES))
_LIFE: Final = Field(
    "expires_after", "object|null",
    'when it ends: `{"anchor": "created_at", "seconds": 3600 to 2592000}`; batch files end after 30 days by themselves',
)  # fmt: skip
_FILE: Final = (
    Field("id", "string", "`file-` and 24 characters", True),
    Field("object", "string", "what this is", True, values=("file",)),
    Field("bytes", "integer", "size of the content", True),
    Field("created_at", "integer", "seconds since the epoch", True),
    Field("expires_at", "integer|null", "seconds since the epoch; null: never", True),
    Field("filename", "string", "the name that the client gave, without folders", True),
    Field("purpose", "string", "what the file is for", True, values=tuple(sorted(LISTED_PURPOSES))),
    Field("status", "string", "usable, or its content was lost", True, values=("processed", "error")),
    Field("status_details", "string|null", "what to do about an error", True),
)  # fmt: skip
_OWN: Final = "a caller sees its own objects only; an id of another caller's is a 404"
_VLLM: Final = ("vLLM has no such route",)
_UPLOAD: Final = (
    Field("id", "string", "`upload_` and 24 characters", True),
    Field("object", "string", "what this is", True, values=("upload",)),
    Field("bytes", "integer", "size that the file is to have", True),
    Field("created_at", "integer", "seconds since the epoch", True),
    Field("expires_at", "integer", "an hour later", True),
    Field("filename", "string", "name of the file", True),
    Field("purpose", "string", "what the file is for", True, values=tuple(PURPOSES)),
    Field("status", "string", "how far it is", True, values=("pending", "completed", "cancelled", "expired")),
    Field("file", "object|null", "the file, once it is completed", True),
)
_BATCH: Final = (
    Field("id", "string", "`batch_` and 24 characters", True),
    Field("object", "string", "what this is", True, values=("batch",)),
    Field("endpoint", "string", "what every line asks", True, values=tuple(BATCH_OPERATIONS)),
    Field("model", "string|null", "the model of all lines, once they are validated", True),
    Field("errors", "object|null", "what is wrong with the input, each with `code`, `message`, `param`, `line`", True),
    Field("input_file_id", "string", "the input", True),
    Field("completion_window", "string", "time until it expires", True, values=("24h",)),
    Field(
        "status", "string", "how far it is", True,
        values=("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"),
    ),
    Field("output_file_id", "string|null", "answers below 300, by line of the input; null if there is none", True),
    Field("error_file_id", "string|null", "all other lines; null if there is none", True),
    Field("created_at", "integer", "seconds since the epoch; each later state has its own `..._at`", True),
    Field("request_counts", "object", "`total`, `completed`, `failed`", True),
    Field("metadata", "object|null", "the client's own labels", True),
    Field("usage", "object", "tokens of all answers", True),
)  # fmt: skip

STORAGE_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "create_file": OperationDoc(
        summary="Store a file",
        sdk='client.files.create(file=open("in.jsonl", "rb"), purpose="batch")',
        request=(
            Field("file", "file", "the content, with a file name", True),
            _PURPOSE,
            Field("expires_after[anchor]", "string", "with `expires_after[seconds]`", values=("created_at",)),
            Field("expires_after[seconds]", "integer", "time to live, 3600 to 2592000; batch files: 30 days"),
        ),
        request_media=FORM,
        answer=_FILE,
        openai=("files are usable at once: `status` is `processed`, or `error` if the content was lost", _OWN),
        vllm=_VLLM,
        limits=("a file, and the files of one caller, are bounded by `metadata.*` settings",),
    ),
    "list_files": OperationDoc(
        summary="List files", sdk='client.files.list(purpose="batch")',
        query=(
            Field("limit", "integer", "objects in a page, 1 to 10000", default="10000"), AFTER,
            Field("order", "string", "by time", default='"desc"', values=("asc", "desc")),
            Field("purpose", "string", "only these", values=tuple(sorted(LISTED_PURPOSES))),
        ),
        answer=PAGE, openai=(_OWN,), vllm=_VLLM,
    ),
    "retrieve_file": OperationDoc(
        summary="Describe a file", sdk='client.files.retrieve("file-ID")', answer=_FILE, openai=(_OWN,), vllm=_VLLM,
    ),
    "delete_file": OperationDoc(
        summary="Delete a file", sdk='client.files.delete("file-ID")',
        answer=(
            Field("id", "string", "id of the file", True),
            Field("object", "string", "what this was", True, values=("file",)),
            Field("deleted", "boolean", "always true", True),
        ),
        openai=(_OWN, "a batch that works on the file goes on"), vllm=_VLLM,
    ),
    "file_content": OperationDoc(
        summary="Fetch the content of a file", sdk='client.files.content("file-ID")', answer_types=(BYTES,),
        openai=(_OWN, "one range of bytes may be asked for with the header `range`"), vllm=_VLLM,
    ),
    "create_upload": OperationDoc(
        summary="Begin a file that comes in parts",
        sdk='client.uploads.create(bytes=5, filename="in.jsonl", mime_type="application/jsonl", purpose="batch")',
        request=(
            Field("bytes", "integer", "size of the whole file, up to 8 GiB", True),
            Field("filename", "string", "name of the file", True),
            Field("mime_type", "string", "its media type", True),
            _PURPOSE, _LIFE,
        ),
        request_media=JSON, answer=_UPLOAD, openai=(_OWN,), vllm=_VLLM,
    ),
    "add_upload_part": OperationDoc(
        summary="Store a part of a file, in any order and at the same time as others",
        sdk='client.uploads.parts.create("upload_ID", data=b"bytes")',
        request=(Field("data", "file", "the bytes, up to 64 MiB", True),),
        request_media=FORM,
        answer=(
            Field("id", "string", "`part_` and 24 characters", True),
            Field("object", "string", "what this is", True, values=("upload.part",)),
            Field("created_at", "integer", "seconds since the epoch", True),
            Field("upload_id", "string", "its upload", True),
        ),
        openai=(_OWN,), vllm=_VLLM,
    ),
    "complete_upload": OperationDoc(
        summary="Make a file of the parts, in the order of their ids",
        sdk='client.uploads.complete("upload_ID", part_ids=["part_ID"])',
        request=(
            Field("part_ids", "array", "ids of the parts, in order", True),
            Field("md5", "string|null", "checksum that the whole must have, hexadecimal"),
        ),
        request_media=JSON, answer=_UPLOAD, openai=(_OWN, "asked twice, it answers the same"), vllm=_VLLM,
    ),
    "cancel_upload": OperationDoc(
        summary="Give an upload up", sdk='client.uploads.cancel("upload_ID")', answer=_UPLOAD, openai=(_OWN,),
        vllm=_VLLM,
    ),
    "create_batch": OperationDoc(
        summary="Run the requests of a file",
        sdk='client.batches.create(input_file_id="file-ID", endpoint="/v1/chat/completions", completion_window="24h")',
        request=(
            Field("input_file_id", "string", "a file with purpose `batch`", True),
            Field("endpoint", "string", "what every line asks", True, values=tuple(BATCH_OPERATIONS)),
            Field("completion_window", "string", "time until it expires", True, values=("24h",)),
            Field("metadata", "object|null", "up to 16 labels of 64 and 512 characters"),
            Field("output_expires_after", "object|null", "as `expires_after` of files, from the output's creation"),
        ),
        request_media=JSON,
        answer=_BATCH,
        openai=(
            _OWN, "`/v1/rerank`, `/v1/score` and `/v1/classify` can be asked, too",
            "lines that were not executed are in the error file, with `batch_expired` or `batch_cancelled`",
        ),
        vllm=("vLLM has no such route; its `run-batch` command is no server",),
        limits=("50,000 requests, one model, 10 MiB a line",),
    ),
    "list_batches": OperationDoc(
        summary="List batches, newest first", sdk="client.batches.list()",
        query=(Field("limit", "integer", "objects in a page, 1 to 100", default="20"), AFTER),
        answer=PAGE, openai=(_OWN,), vllm=_VLLM,
    ),
    "retrieve_batch": OperationDoc(
        summary="Describe a batch", sdk='client.batches.retrieve("batch_ID")', answer=_BATCH, openai=(_OWN,),
        vllm=_VLLM,
    ),
    "batch_events": OperationDoc(
        summary="Follow a batch",
        sdk='client.get("/batches/batch_ID/events", cast_to=object)',
        answer_types=(EVENTS,),
        openai=(
            _OWN,
            "OpenAI has no such operation. An event `batch` comes at once, with each change and with the end, which"
            " ends the stream; its data is the batch and `progress`: `requests_per_second` and `seconds_left`, null"
            " while they are not known",
        ),
        vllm=_VLLM,
        limits=("256 streams for each process of the service; a further one is a 503",),
    ),
    "cancel_batch": OperationDoc(
        summary="End a batch early and keep what is done", sdk='client.batches.cancel("batch_ID")', answer=_BATCH,
        openai=(_OWN,), vllm=_VLLM,
    ),
})  # fmt: skip
