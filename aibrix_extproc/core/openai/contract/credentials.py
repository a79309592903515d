"""Which headers and query parameters may carry a client's credential. None of them reaches an engine or a log."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_plus

from aibrix_extproc.core.openai.contract.names import MAX_NAME_CHARACTERS, Names

MAX_PARAMETERS: Final = 64  # of a query whose names are read one by one

# name -> whose credential it is. Only the first three are looked at; all of them stop here.
CREDENTIAL_HEADERS: Final[Mapping[str, str]] = MappingProxyType({
    "authorization": "`Bearer KEY`, the client's key; an engine with a key of its own gets that one instead",
    "x-api-key": "the key as Anthropic's SDK sends it; looked at if there is no `authorization`",
    "api-key": "the key as Azure's clients send it; looked at if there is neither of these",
    "proxy-authorization": "of a proxy in front",
    "cookie": "of a browser's session",
    "ocp-apim-subscription-key": "of Azure API Management",
    "x-goog-api-key": "of Google's SDKs",
    "x-amz-security-token": "of AWS",
    "x-auth-token": "of OpenStack and others",
    "x-litellm-api-key": "of a LiteLLM proxy in front",
    "x-portkey-api-key": "of a Portkey gateway in front",
    "x-forwarded-access-token": "of an OAuth proxy in front",
    "cf-access-client-secret": "of Cloudflare Access",
    "cf-access-jwt-assertion": "of Cloudflare Access",
    "x-amzn-oidc-data": "of AWS's load balancer, claims about the user",
    "x-amzn-oidc-accesstoken": "the same, the user's access token",
    "x-ms-client-principal": "of Azure App Service, claims about the user",
    "dpop": "proof that an OAuth token is the client's own",
    "x-forwarded-client-cert": "of a proxy in front that has ended the client's TLS",
})  # fmt: skip

# Words that make a name a credential's, whoever invented it; split where names are split.
_WORDS: Final = frozenset({
    "apikey", "auth", "authentication", "authorization", "bearer", "cookie", "cookies", "credential", "credentials",
    "creds", "jwt", "oauth", "passphrase", "passwd", "password", "pwd", "secret", "sig", "signature",
    "token",  # not tokens: those are counted
})  # fmt: skip
# The same where words are run together, as in `accesstoken`.
_ENDINGS: Final = ("accesskey", "apikey", "authkey", "keyid", "password", "secret", "secretkey", "token")
# These only sound like it: SDKs name a request by it, so that it has its effect once.
_NO_CREDENTIALS: Final = frozenset({"idempotency-key"})
_NUMBER: Final = re.compile(r"v?[0-9]*|id")  # behind a key: which one, or of which version
_SEPARATOR: Final = re.compile(r"[-_.]")


# Each of these names has one of these parts: Envoy hands us only headers that we read, and those that have one.
PARTS: Final = ("auth", "bearer", "cookie", "cred", "jwt", "key", "pass", "pwd", "secret", "sig", "token")


def is_credential(name: str) -> bool:
    """Whether a header, in lower case, may carry a credential: a row of the table, or a name that says so."""
    return _VERDICTS[name]


def _sounds_like_one(name: str) -> bool:
    if name in _NO_CREDENTIALS:
        return False
    if name in CREDENTIAL_HEADERS:
        return True
    words = [word.rstrip("0123456789") or word for word in _SEPARATOR.split(name)]
    if not _WORDS.isdisjoint(words) or any(word.endswith(_ENDINGS) for word in words):
        return True
    while len(words) > 1 and _NUMBER.fullmatch(words[-1]):
        words.pop()
    return words[-1] == "key"


_VERDICTS: Final = Names(_sounds_like_one)


def without_credentials(query: str) -> str:
    """A query string without the parameters that may carry a credential; all others stay as they are.

    Nothing is left of one with too many parameters to look at each, unless no part of a credential's name is in it.
    """
    if "%" not in query and not _may_have_one(query.lower()):
        return query
    parts = query.split("&", MAX_PARAMETERS)
    if len(parts) > MAX_PARAMETERS:
        return ""
    kept = [part for part in parts if not _carries_one(part)]
    return query if len(kept) == len(parts) else "&".join(kept)


def _may_have_one(lowered: str) -> bool:
    return any(part in lowered for part in PARTS)


def _carries_one(parameter: str) -> bool:
    name = parameter.partition("=")[0]
    if len(name) > MAX_NAME_CHARACTERS:
        return True  # no parameter is called so
    return is_credential(unquote_plus(name).strip().lower() if "%" in name or "+" in name else name.lower())
