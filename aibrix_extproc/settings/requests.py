"""Settings of what clients may send, who they are, and what is counted."""

from pathlib import Path

from pydantic import Field

from aibrix_extproc.settings.fields import MIB, ApiKey, Group, HealthPath, MediaHost, Seconds, flag


class LimitSettings(Group):
    """Bounds on what a client may send."""

    max_body_bytes: int = Field(
        50 * MIB, ge=1024, le=1024 * MIB,
        description="largest request body; Envoy's buffer limits must be at least this",
        json_schema_extra=flag("--max-body-bytes"),
    )  # fmt: skip
    max_audio_bytes: int = Field(
        25 * MIB, ge=1024, le=1024 * MIB,
        description="largest form with audio, all of it counted, within max_body_bytes; OpenAI takes 25 MiB",
    )  # fmt: skip
    max_wait_seconds: Seconds = Field(
        600.0,
        description="longest wait for the head of an answer; a client may ask for less by x-stainless-read-timeout",
        json_schema_extra=flag("--max-wait-seconds"),
    )
    media_hosts: tuple[MediaHost, ...] = Field(
        (), description="hosts whose URLs of images, audio, video and files a request may name, as patterns: `*` is"
        " every public host, `*.example.com` those of a domain, inner names and addresses are listed in full; without"
        " it engines decide, and fetch from anywhere unless started with --allowed-media-domains",
        json_schema_extra=flag("--media-host"),
    )  # fmt: skip


class HealthSettings(Group):
    """What load balancers in front of Envoy may ask."""

    path: HealthPath = Field(
        "/healthz",
        description="path that Envoy answers without a key: 200 while requests can be served, else 503; empty for none",
        json_schema_extra=flag("--health-path"),
    )


class AccessSettings(Group):
    """Who may call."""

    api_keys: tuple[ApiKey, ...] = Field(
        (), description="keys that are accepted; none, and no key file, means everyone is",
        json_schema_extra=flag("--api-key"),
    )  # fmt: skip
    key_file: Path | None = Field(
        None, description="YAML file with callers and the hashes of their keys, watched and reloaded; see `keys`",
        json_schema_extra=flag("--key-file"),
    )  # fmt: skip
    required: bool = Field(
        False,
        description="a key is asked for also without key file and api_keys: keys come from the API of the metadata"
        " service (control.url)",
        json_schema_extra=flag("--require-keys"),
    )
    admin_key_file: Path | None = Field(
        None, description="file with the key of an administrator, which counts also where no keys are asked for;"
        " `local` makes one",
        json_schema_extra=flag("--admin-key-file"),
    )  # fmt: skip
    engine_controls: bool = Field(
        False, description="callers that are in no key file (everyone without keys, and api_keys) may steer engines"
    )


class MeteringSettings(Group):
    """Counting tokens. Needs the stream filter and the access log service in Envoy's configuration."""

    enabled: bool = Field(
        False,
        description="ask engines for the usage of every stream; Envoy's filter hides it from clients that did not ask",
        json_schema_extra=flag("--metering"),
    )
    note_keys: Path | None = Field(
        None,
        description="file of secrets that all replicas share, one a line; the first seals what Envoy's access log"
        " brings back, and the ids of responses, by which every replica finds their engine; all are accepted; reloaded."
        " Without it each process has a random key of its own, which is right for one replica only",
        json_schema_extra=flag("--note-keys"),
    )
