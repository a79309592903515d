"""The listener that Envoy talks to."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from aibrix_extproc.settings.fields import Group, Name, Port, Seconds, flag


class Transport(StrEnum):
    """How gRPC is spoken with Envoy."""

    GRPCIO = "grpcio"
    LEAN = "lean"


class Tls(StrEnum):
    """What the ext_proc listener shows its peers."""

    NONE = "none"
    SELF_SIGNED = "self-signed"
    FILES = "files"


class ServerSettings(Group):
    """The ext_proc listener that Envoy talks to."""

    host: str = Field("127.0.0.1", description="address to listen on", json_schema_extra=flag("--host"))
    port: Port = Field(
        9002, description="port of the ext_proc and gRPC health services", json_schema_extra=flag("--port")
    )
    transport: Transport = Field(
        Transport.LEAN,
        description="grpcio (the reference) or lean (HTTP/2 on the event loop itself, a fraction of the CPU)",
        json_schema_extra=flag("--transport"),
    )
    tls: Tls = Field(
        Tls.NONE,
        description="none (plaintext), self-signed (a certificate made at start), or files (tls_cert and tls_key)",
        json_schema_extra=flag("--tls"),
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate and its chain, or a directory with tls.crt and tls.key; reloaded",
        json_schema_extra=flag("--tls-cert"),
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the certificate's private key, without a passphrase; reloaded",
        json_schema_extra=flag("--tls-key"),
    )  # fmt: skip
    tls_names: tuple[Name, ...] = Field(
        (), description="further host names and addresses of the self-signed certificate, such as those of a Service",
        json_schema_extra=flag("--tls-name"),
    )  # fmt: skip
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the authorities whose clients are let in, or a directory with ca.crt; reloaded."
        " Without it everybody who reaches the port is let in",
        json_schema_extra=flag("--tls-client-ca"),
    )
    tls_client_names: tuple[Name, ...] = Field(
        (),
        description="names of which a client's certificate must have one: alternative names (DNS, URI, IP, email), or"
        " the common name if it has none of them; one that ends with * is a beginning. Any name is good without them",
        json_schema_extra=flag("--tls-client-name"),
    )
    health_port: Port | None = Field(
        None, description="further port for the gRPC health service alone, always plaintext; none without it",
        json_schema_extra=flag("--health-port"),
    )  # fmt: skip
    max_connections: int = Field(
        4096, ge=1, le=1_000_000,
        description="connections at once; each worker thread of each Envoy has one. Each takes a file descriptor: they"
        " get three quarters of `ulimit -n` at most, so that the admin port answers and engines are polled",
    )  # fmt: skip
    max_connections_of_peer: int = Field(
        1024, ge=1, le=1_000_000, description="of one address (lean transport); with IPv6 of one /64 network"
    )
    idle_seconds: Seconds = Field(
        600.0, description="a connection that has no streams for so long is closed; Envoy makes a new one when needed"
    )
    max_streams: int = Field(
        20_000, ge=1, le=1_000_000,
        description="exchanges and other streams at once; one that is open takes up to 60 KB",
    )  # fmt: skip
    max_streams_of_peer: int = Field(
        10_000, ge=1, le=1_000_000,
        description="of one address (lean transport), and of one connection (both); more are refused",
    )  # fmt: skip
    message_timeout_seconds: Seconds = Field(
        5.0,
        description="Envoy's own `message_timeout` towards us, so long it waits for an answer; what we wait for"
        " ourselves takes four fifths of it at most",
    )  # fmt: skip
    max_message_timeout_seconds: float = Field(
        0.0, ge=0, le=86_400,
        description="Envoy's own `max_message_timeout`: how long it waits if we ask it to; 0 if it has none, as with"
        " Envoy Gateway",
    )  # fmt: skip
    drain_seconds: float = Field(
        30.0, ge=0, le=86_400, description="how long running exchanges may go on after SIGTERM",
        json_schema_extra=flag("--drain-seconds"),
    )  # fmt: skip
    drain_notice_seconds: float = Field(
        1.0, ge=0, le=600,
        description="how long new exchanges are still taken after SIGTERM, so that Envoy's health check sees it first",
    )  # fmt: skip

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "ServerSettings":
        if self.tls is Tls.FILES and self.tls_cert is None:
            raise ValueError("tls: files needs tls_cert (--tls-cert), and tls_key unless that is a directory")
        if self.tls is not Tls.FILES and (self.tls_cert or self.tls_key):
            raise ValueError(f"tls_cert and tls_key are not used with tls: {self.tls}; set it to files (--tls files)")
        if self.tls is not Tls.SELF_SIGNED and self.tls_names:
            raise ValueError(f"tls_names are not used with tls: {self.tls}; set it to self-signed")
        if self.tls is Tls.NONE and self.tls_client_ca:
            raise ValueError("tls_client_ca is not used with tls: none; set it to files or self-signed (--tls)")
        if self.tls_client_names and not self.tls_client_ca:
            raise ValueError("tls_client_names are not used without tls_client_ca (--tls-client-ca)")
        return self
