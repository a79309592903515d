"""Errors of stored objects: files, uploads and batches."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "file_not_found": ErrorRow(
        status=404, param="id",
        causes=(Cause.STORED,),
        message="No such File object: {id}",
        when="no file of the caller has the id",
    ),
    "upload_not_found": ErrorRow(
        status=404, param="upload_id",
        causes=(Cause.STORED,),
        message="No such Upload object: {id}",
        when="no upload of the caller has the id",
    ),
    "batch_not_found": ErrorRow(
        status=404,
        causes=(Cause.STORED,),
        message="No batch found with id '{id}'.",
        when="no batch of the caller has the id",
    ),
    "batch_not_cancellable": ErrorRow(
        status=409, should_retry=False,
        causes=(Cause.STORED,),
        message="Cannot cancel a batch with status '{status}'.",
        when="cancelling a batch that has ended",
    ),
    "invalid_batch_file": ErrorRow(
        status=400,
        causes=(Cause.STORED,),
        message="Invalid file format for Batch API. Must be .jsonl",
        when="a file with purpose `batch` whose name does not end in .jsonl",
    ),
    "empty_file": ErrorRow(
        status=400, param="file",
        causes=(Cause.STORED,),
        message="The file is empty. Send a file with at least one byte.",
        when="a file without content",
    ),
    "file_too_large": ErrorRow(
        status=413, code="file_too_large", param="file",
        causes=(Cause.STORED,),
        message="The content is too large. Maximum is {limit} bytes.",
        when="a file, or a part of an upload, over its limit",
    ),
    "download_refused": ErrorRow(
        status=400,
        causes=(Cause.STORED,),
        message="Not allowed to download files of purpose: {purpose}",
        when="the content of a file whose purpose forbids that",
    ),
    "file_content_lost": ErrorRow(
        status=410, code="file_content_lost", param="id",
        causes=(Cause.STORED,),
        message="The content of file {id} was lost. Delete the file, and upload it again.",
        when="the content of a file whose blob is not in the blob store any more",
    ),
    "range_not_satisfiable": ErrorRow(
        status=416, code="range_not_satisfiable",
        causes=(Cause.STORED,),
        message="The requested range begins behind the end of the file.",
        when="a Range header that no byte of the file is in",
    ),
    "upload_not_pending": ErrorRow(
        status=400, code="upload_not_pending", param="upload_id",
        causes=(Cause.STORED,),
        message="Upload {id} is {status} and cannot change any more.",
        when="a completed, cancelled or expired upload",
    ),
    "upload_wrong_size": ErrorRow(
        status=400, code="upload_wrong_size", param="part_ids",
        causes=(Cause.STORED,),
        message="The parts have {got} bytes together, but the upload was created for {expected}.",
        when="parts that do not add up to the size that the upload was created for",
    ),
    "upload_too_many_bytes": ErrorRow(
        status=400, code="upload_too_many_bytes", param="data",
        causes=(Cause.STORED,),
        message="The parts of this upload hold too many bytes already; it was created for {limit}.",
        when="more parts than an upload of that size can need",
    ),
    "unknown_part": ErrorRow(
        status=400, code="unknown_part",
        causes=(Cause.STORED,),
        message="No such part of this upload: {id}",
        when="completing an upload with a part that it does not have",
    ),
    "part_twice": ErrorRow(
        status=400, code="invalid_value",
        causes=(Cause.STORED,),
        message="The part {id} is named twice.",
        when="completing an upload with a part named twice",
    ),
    "wrong_md5": ErrorRow(
        status=400, code="wrong_md5", param="md5",
        causes=(Cause.STORED,),
        message="The MD5 checksum of the parts is {got}, but the request says {expected}.",
        when="completing an upload with another checksum than its parts have",
    ),
    "storage_quota_exceeded": ErrorRow(
        status=400, code="storage_quota_exceeded",
        causes=(Cause.STORED,),
        message="You have reached the limit of stored files or bytes. Delete files that you no longer need.",
        when="a caller over its quota of stored files or bytes",
    ),
    "too_many_batches": ErrorRow(
        status=429, type="requests", code="too_many_batches", should_retry=False,
        causes=(Cause.STORED,),
        message="You have as many unfinished batches as you may. Wait until one has ended, or cancel one.",
        when="a caller with `metadata.max_unfinished_batches` batches that have not ended",
    ),
    "too_many_uploads": ErrorRow(
        status=429, type="requests", code="too_many_uploads", should_retry=False,
        causes=(Cause.STORED,),
        message="You have as many pending uploads as you may. Complete or cancel one.",
        when="a caller with `metadata.max_pending_uploads` pending uploads",
    ),
    "request_timeout": ErrorRow(
        status=408, code="request_timeout", should_retry=False,
        causes=(Cause.STORED,),
        message="The body of the request stopped coming.",
        when="a client that does not go on with its body",
    ),
    "insufficient_storage": ErrorRow(
        status=503, type=SERVER_ERROR, code="insufficient_storage", retry_after_seconds=60,
        causes=(Cause.STORED,),
        message="The server has no room to store this at the moment.",
        when="the blob store is full",
    ),
    "storage_unavailable": ErrorRow(
        status=503, type=SERVER_ERROR, code="storage_unavailable", retry_after_seconds=5,
        causes=(Cause.STORED,),
        message="The server cannot reach its storage at the moment. Please retry shortly.",
        when="the database or the blob store fails or cannot be reached",
    ),
})  # fmt: skip
