"""Errors of stored objects: files, uploads and batches. Rows of the one table in `errors`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import INVALID_REQUEST, SERVER_ERROR, ErrorRow

STORAGE_ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    # key: status, type, code, param, message, when, retry-after, should-retry
    "file_not_found": ErrorRow(
        404, INVALID_REQUEST, None, "id", "No such File object: {id}", "no file of the caller has the id",
    ),
    "upload_not_found": ErrorRow(
        404, INVALID_REQUEST, None, "upload_id", "No such Upload object: {id}", "no upload of the caller has the id",
    ),
    "batch_not_found": ErrorRow(
        404, INVALID_REQUEST, None, None, "No batch found with id '{id}'.", "no batch of the caller has the id",
    ),
    "batch_not_cancellable": ErrorRow(
        409, INVALID_REQUEST, None, None, "Cannot cancel a batch with status '{status}'.",
        "cancelling a batch that has ended", should_retry=False,
    ),
    "invalid_batch_file": ErrorRow(
        400, INVALID_REQUEST, None, None, "Invalid file format for Batch API. Must be .jsonl",
        "a file with purpose `batch` whose name does not end in .jsonl",
    ),
    "empty_file": ErrorRow(
        400, INVALID_REQUEST, None, "file", "The file is empty. Send a file with at least one byte.",
        "a file without content",
    ),
    "file_too_large": ErrorRow(
        413, INVALID_REQUEST, "file_too_large", "file", "The content is too large. Maximum is {limit} bytes.",
        "a file, or a part of an upload, over its limit",
    ),
    "download_refused": ErrorRow(
        400, INVALID_REQUEST, None, None, "Not allowed to download files of purpose: {purpose}",
        "the content of a file whose purpose forbids that",
    ),
    "range_not_satisfiable": ErrorRow(
        416, INVALID_REQUEST, "range_not_satisfiable", None, "The requested range begins behind the end of the file.",
        "a Range header that no byte of the file is in",
    ),
    "upload_not_pending": ErrorRow(
        400, INVALID_REQUEST, "upload_not_pending", "upload_id", "Upload {id} is {status} and cannot change any more.",
        "a completed, cancelled or expired upload",
    ),
    "upload_wrong_size": ErrorRow(
        400, INVALID_REQUEST, "upload_wrong_size", "part_ids",
        "The parts have {got} bytes together, but the upload was created for {expected}.",
        "parts that do not add up to the size that the upload was created for",
    ),
    "upload_too_many_bytes": ErrorRow(
        400, INVALID_REQUEST, "upload_too_many_bytes", "data",
        "The parts of this upload hold too many bytes already; it was created for {limit}.",
        "more parts than an upload of that size can need",
    ),
    "unknown_part": ErrorRow(
        400, INVALID_REQUEST, "unknown_part", None, "No such part of this upload: {id}",
        "completing an upload with a part that it does not have",
    ),
    "part_twice": ErrorRow(
        400, INVALID_REQUEST, "invalid_value", None, "The part {id} is named twice.",
        "completing an upload with a part named twice",
    ),
    "wrong_md5": ErrorRow(
        400, INVALID_REQUEST, "wrong_md5", "md5",
        "The MD5 checksum of the parts is {got}, but the request says {expected}.",
        "completing an upload with another checksum than its parts have",
    ),
    "storage_quota_exceeded": ErrorRow(
        400, INVALID_REQUEST, "storage_quota_exceeded", None,
        "You have reached the limit of stored files or bytes. Delete files that you no longer need.",
        "a caller over its quota of stored files or bytes",
    ),
    "request_timeout": ErrorRow(
        408, INVALID_REQUEST, "request_timeout", None, "The body of the request stopped coming.",
        "a client that does not go on with its body", should_retry=False,
    ),
    "insufficient_storage": ErrorRow(
        503, SERVER_ERROR, "insufficient_storage", None,
        "The server has no room to store this at the moment.",
        "the blob store is full", 60,
    ),
    "storage_unavailable": ErrorRow(
        503, SERVER_ERROR, "storage_unavailable", None,
        "The server cannot reach its storage at the moment. Please retry shortly.",
        "the database or the blob store fails or cannot be reached", 5,
    ),
})  # fmt: skip
