"""Operations of the metadata service: files, uploads and batches. `errors` are those that not all of them have."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation

ROWS: Final = (
    Operation(
        "create_file", "POST", "/v1/files",
        action=Action.METADATA,
        errors=(
            "invalid_batch_file", "empty_file", "file_too_large", "storage_quota_exceeded", "request_timeout",
            "insufficient_storage",
        ),
    ),
    Operation("list_files", "GET", "/v1/files", action=Action.METADATA, errors=("file_not_found",)),
    Operation("retrieve_file", "GET", "/v1/files/{file_id}", action=Action.METADATA, errors=("file_not_found",)),
    Operation("delete_file", "DELETE", "/v1/files/{file_id}", action=Action.METADATA, errors=("file_not_found",)),
    Operation(
        "file_content", "GET", "/v1/files/{file_id}/content",
        action=Action.METADATA,
        errors=("file_not_found", "download_refused", "file_content_lost", "range_not_satisfiable"),
    ),
    Operation(
        "create_upload", "POST", "/v1/uploads",
        action=Action.METADATA,
        errors=("invalid_batch_file", "storage_quota_exceeded", "too_many_uploads", "request_timeout"),
    ),
    Operation(
        "add_upload_part", "POST", "/v1/uploads/{upload_id}/parts",
        action=Action.METADATA,
        errors=(
            "upload_not_found", "file_too_large", "upload_not_pending", "upload_too_many_bytes",
            "request_timeout", "insufficient_storage",
        ),
    ),
    Operation(
        "complete_upload", "POST", "/v1/uploads/{upload_id}/complete",
        action=Action.METADATA,
        errors=(
            "upload_not_found", "upload_not_pending", "upload_wrong_size", "unknown_part", "part_twice",
            "wrong_md5", "storage_quota_exceeded", "request_timeout",
        ),
    ),
    Operation(
        "cancel_upload", "POST", "/v1/uploads/{upload_id}/cancel",
        action=Action.METADATA,
        errors=("upload_not_found", "upload_not_pending", "request_timeout"),
    ),
    Operation(
        "create_batch", "POST", "/v1/batches",
        action=Action.METADATA,
        errors=("too_many_batches", "request_timeout"),
    ),
    Operation("list_batches", "GET", "/v1/batches", action=Action.METADATA, errors=("batch_not_found",)),
    Operation("retrieve_batch", "GET", "/v1/batches/{batch_id}", action=Action.METADATA, errors=("batch_not_found",)),
    Operation(
        "batch_events", "GET", "/v1/batches/{batch_id}/events",
        action=Action.METADATA,
        errors=("batch_not_found",),
    ),
    Operation(
        "cancel_batch", "POST", "/v1/batches/{batch_id}/cancel",
        action=Action.METADATA,
        errors=("batch_not_found", "batch_not_cancellable"),
    ),
)  # fmt: skip
