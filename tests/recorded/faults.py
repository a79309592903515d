"""Texts of vLLM's 500s that the request is to blame for; the answer filter and the gateway must know the same."""

from typing import Final

MEDIA: Final = (
    "Cannot connect to host img.example:80 ssl:default [Connect call failed ('127.0.0.1', 80)]",
    "Cannot connect to host nope.invalid:80 ssl:default [Name or service not known]",
    "Connection timeout to host http://img.example/a.png",
    "Server disconnected",
    "Timeout on reading data from socket",
    "Response payload is not completed: <ContentLengthError: 400, message='Not enough data to satisfy content length'>",
    "HTTPConnectionPool(host='img.example', port=80): Max retries exceeded with url: /a.png",
    "503, message='Service Unavailable', url='http://img.example/a.png'",
    "0, message='', url='http://img.example/a.png'",
    "Cannot load local files without `--allowed-local-media-path`.",
    "image file is truncated (2 bytes not processed)",
    "broken data stream when reading image file",
    "unrecognized data stream contents when reading image file",
    "cannot identify image file <_io.BytesIO object>",
)
CONSTRAINTS: Final = (
    "Internal server error",
    "Invalid structured outputs: the grammar has no end",
    "maximum recursion depth exceeded while calling a Python object",
)
# The Rust frontend's, with the field that each is about.
FRONTEND: Final = {
    "failed to submit chat request: tool parsing is disabled by frontend configuration": "tool_choice",
    "failed to submit chat request: chat template error: assistant tool call `1` has invalid JSON arguments: EOF while "
    "parsing an object at line 1 column 1": "messages",
}
# Of code that reads a request: a refusal in the input of a response, an empty message in it, a silent recording.
READING: Final = (
    "'ResponseOutputRefusal' object has no attribute 'text'",
    "'str' object has no attribute 'get'",
    "list index out of range",
    "tuple index out of range",
)
FAULTS_OF_THE_REQUEST: Final = (*MEDIA, *CONSTRAINTS, *FRONTEND, *READING)
# The same kind of words, of an engine that lacks something of its own.
FAULTS_OF_THE_ENGINE: Final = ("'NoneType' object has no attribute 'get'", "index out of range in self")
