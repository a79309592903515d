"""Which types of the SDKs an operation takes and gives. Operations of vLLM's own are not here."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import anthropic
import openai
from anthropic import types as messages
from openai import types
from openai.pagination import SyncCursorPage, SyncPage
from openai.types import audio, chat, responses, uploads
from openai.types.chat.completion_create_params import CompletionCreateParams as ChatParams
from openai.types.responses.response_create_params import ResponseCreateParams
from openai.types.responses.response_retrieve_params import ResponseRetrieveParams
from typing_extensions import NotRequired, Required, TypedDict


@dataclass(frozen=True, slots=True)
class SdkTypes:
    """Types of an operation, as an SDK names them. None: it has none."""

    request: Any = None
    _: KW_ONLY
    file: str | None = None  # the field of a form that is a file
    query: Any = None
    answer: Any = None
    events: Any = None  # one event of a stream


def one_request(kind: Any, name: str, file: str | None = None) -> Any:
    """One type of a request: an SDK has one for streams and one for whole answers, which differ in `stream` only.

    `file`: the field of a form that is bytes here; what an SDK takes for a file has no schema.
    """
    kinds = get_args(kind) if get_origin(kind) is Union else (kind,)
    hints = {name: hint for one in kinds for name, hint in get_type_hints(one, include_extras=True).items()}
    fields = dict(hints)  # a field of one kind only, or of all, is as required as its annotation says
    if len(kinds) > 1:
        fields["stream"] = NotRequired[bool | None]
    if file is not None:
        fields[file] = Required[bytes]
    return TypedDict(name, fields, total=False)  # type: ignore[operator]


OPENAI_VERSION: Final = openai.__version__
ANTHROPIC_VERSION: Final = anthropic.__version__

OPENAI: Final = {
    "chat_completion": SdkTypes(ChatParams, answer=chat.ChatCompletion, events=chat.ChatCompletionChunk),
    "completion": SdkTypes(types.CompletionCreateParams, answer=types.Completion, events=types.Completion),
    "response": SdkTypes(ResponseCreateParams, answer=responses.Response, events=responses.ResponseStreamEvent),
    "retrieve_response": SdkTypes(
        query=ResponseRetrieveParams, answer=responses.Response, events=responses.ResponseStreamEvent
    ),
    "cancel_response": SdkTypes(answer=responses.Response),
    "list_input_items": SdkTypes(query=responses.InputItemListParams, answer=responses.ResponseItemList),
    "embedding": SdkTypes(types.EmbeddingCreateParams, answer=types.CreateEmbeddingResponse),
    "transcription": SdkTypes(
        audio.TranscriptionCreateParams,
        file="file",
        answer=audio.TranscriptionCreateResponse,
        events=audio.TranscriptionStreamEvent,
    ),
    "translation": SdkTypes(audio.TranslationCreateParams, file="file", answer=audio.TranslationCreateResponse),
    "list_models": SdkTypes(answer=SyncPage[types.Model]),
    "retrieve_model": SdkTypes(answer=types.Model),
    "create_file": SdkTypes(types.FileCreateParams, file="file", answer=types.FileObject),
    "list_files": SdkTypes(query=types.FileListParams, answer=SyncCursorPage[types.FileObject]),
    "retrieve_file": SdkTypes(answer=types.FileObject),
    "delete_file": SdkTypes(answer=types.FileDeleted),
    "create_upload": SdkTypes(types.UploadCreateParams, answer=types.Upload),
    "add_upload_part": SdkTypes(uploads.PartCreateParams, file="data", answer=uploads.UploadPart),
    "complete_upload": SdkTypes(types.UploadCompleteParams, answer=types.Upload),
    "cancel_upload": SdkTypes(answer=types.Upload),
    "create_batch": SdkTypes(types.BatchCreateParams, answer=types.Batch),
    "list_batches": SdkTypes(query=types.BatchListParams, answer=SyncCursorPage[types.Batch]),
    "retrieve_batch": SdkTypes(answer=types.Batch),
    "cancel_batch": SdkTypes(answer=types.Batch),
}
ANTHROPIC: Final = {
    "message": SdkTypes(messages.MessageCreateParams, answer=messages.Message, events=messages.RawMessageStreamEvent),
    "count_tokens": SdkTypes(messages.MessageCountTokensParams, answer=messages.MessageTokensCount),
}
