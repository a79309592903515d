"""Credentials of clients: by table and by name, in headers and in queries."""

import pytest

from aibrix_extproc.core.openai.contract.credentials import (
    CREDENTIAL_HEADERS,
    PARTS,
    is_credential,
    without_credentials,
)


@pytest.mark.parametrize(
    "name",
    [*CREDENTIAL_HEADERS, "x-openai-api-key", "x-access-token", "openai_api_key", "x-functions-key", "x-vault-token",
     "helicone-auth", "x-cookie", "cookie", "x-user-jwt", "private-token", "x-client-secret", "anthropic-api-key",
     "x-hub-signature", "xapikey", "accesstoken", "authtoken", "secretkey", "x-amzn-oidc-accesstoken", "idtoken",
     "apikey2", "api-key-v2", "x-api-key-id", "access-key-id", "awsaccesskeyid", "x-oauth", "x-oauth2", "x-pwd",
     "x-creds", "passphrase", "token1", "x-amz-signature", "x-userpassword", "x-clientsecret-2", "key.3",
     "x-" * 2000 + "token"],
)  # fmt: skip
def test_credential_is_known_by_its_name(name: str) -> None:
    assert is_credential(name)
    assert name in CREDENTIAL_HEADERS or any(part in name for part in PARTS), "Envoy would not tell us"


@pytest.mark.parametrize(
    "name",
    ["content-type", "user-agent", "accept", "traceparent", "tracestate", "x-stainless-lang", "x-request-id", "origin",
     "x-forwarded-for", "openai-beta", "anthropic-version", ":path", ":authority", "x-monkey", "keyword", "tokenizer",
     "x-key-points", "id", "v1", "x-session", "passenger", "design", "x-compass", "author", "x-keys-pressed", "tokens",
     "max-output-size", "x-b3-traceid", "baggage", "x-stainless-retry-count", "x-max-tokenization", "idempotency-key"],
)  # fmt: skip
def test_other_names_are_none(name: str) -> None:
    assert not is_credential(name)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("trace=1", "trace=1"),
        ("api-key=sk", ""),
        ("api-version=2024&api-key=sk&x=%20", "api-version=2024&x=%20"),
        ("API_KEY=sk&stream=true", "stream=true"),
        ("key=sk", ""),
        ("accessToken=a&apiKey=b&page=2", "page=2"),
        ("AWSAccessKeyId=a&Signature=b&Expires=3", "Expires=3"),
        ("%61pi%2Dkey=sk&starting_after=3", "starting_after=3"),
        ("access_token=a=b&&x", "&x"),
        ("subscription-key=x&sig=y&a=1", "a=1"),
    ],
)
def test_query_loses_its_credentials_only(query: str, kept: str) -> None:
    assert without_credentials(query) == kept


def test_long_query_costs_a_scan() -> None:
    assert without_credentials("%61" * 200_000 + "=1") == ""  # nothing is called so
    assert without_credentials("%61" * 200_000 + "-token=1") == ""
    assert without_credentials("&" * 60_000) == "&" * 60_000


@pytest.mark.parametrize("name", ["x-sim-tokens", "x-max-tokens", "x-ratelimit-remaining-tokens"])
def test_count_of_tokens_is_no_credential(name: str) -> None:
    assert not is_credential(name)
