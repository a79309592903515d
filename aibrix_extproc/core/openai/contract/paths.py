"""Request paths as the operations table matches them, and model ids as they stand in a path.

Nothing is resolved or decoded here: a path with dot segments or escapes stays what it is, so that it can only ever
match itself. Percent-encoding is undone for one thing, the model id of `/v1/models/{id}`, and only once.
"""

import re
from typing import Final

MAX_MODEL_ID_BYTES: Final = 1024
MAX_PATH_CHARACTERS: Final = 8192  # no operation has a longer path: such a one is not looked at

_SLASHES: Final = re.compile(r"/{2,}")
# `openai.AzureOpenAI` puts the model's name into the paths of these operations, unescaped, and into the body as well.
_DEPLOYMENT: Final = re.compile(
    "/v1/deployments/.+?"
    "/(chat/completions|completions|embeddings|audio/(?:transcriptions|translations|speech)|images/(?:generations|edits))"
)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def normalise(raw_path: str) -> str:
    """The path to match: without query, fragment and Azure's deployment, slashes merged, no trailing slash."""
    path = raw_path.partition("?")[0].partition("#")[0]
    if len(path) > MAX_PATH_CHARACTERS:
        return path
    if "//" in path:
        path = _SLASHES.sub("/", path)
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    if path.startswith("/v1/deployments/") and (found := _DEPLOYMENT.fullmatch(path)):
        return f"/v1/{found[1]}"
    return path or "/"


def has_dot_segments(path: str) -> bool:
    """Whether a `.` or `..` segment hides in the path, plain or escaped; such a path belongs to no template."""
    if "." not in path and "%" not in path:
        return False
    plain = path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/")
    return "/./" in (wrapped := f"/{plain}/") or "/../" in wrapped


def decode_model_id(segment: str) -> str | None:
    """The model id that the rest of a `/v1/models/...` path names, or None if no model can be called so."""
    raw = segment.encode("utf-8", "surrogatepass")
    if not raw or len(raw) > MAX_MODEL_ID_BYTES or _STRAY_PERCENT.search(raw):
        return None
    decoded = _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), raw)
    try:
        name = decoded.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _CONTROL.search(name) or any(part in (".", "..") for part in name.split("/")):
        return None
    return name
