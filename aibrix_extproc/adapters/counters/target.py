"""The address of Redis, read from its URL."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aibrix_extproc.config_files.errors import SourceError


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """The parameters of a connection."""

    host: str
    port: int
    database: int
    user: str
    password: str
    tls: ssl.SSLContext | None
    unix_path: str | None = None

    @property
    def shown(self) -> str:
        """For logs: without the password."""
        return self.unix_path or f"{self.host}:{self.port}"


def target_of(url: str, password_file: Path | None, ca_file: Path | None) -> RedisTarget:
    """Raises SourceError for a URL or a file that cannot be used."""
    parts = urlsplit(url)
    try:
        port, database = parts.port or 6379, int(parts.path.strip("/") or 0) if parts.scheme != "unix" else 0
    except ValueError:
        raise SourceError("redis.url: expected redis://HOST:PORT/NUMBER") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise SourceError("redis.url: expected redis://, rediss:// (TLS) or unix://")
    return RedisTarget(
        host=parts.hostname or "127.0.0.1",
        port=port,
        database=database,
        user=unquote(parts.username or ""),
        password=_password(password_file) if password_file is not None else unquote(parts.password or ""),
        tls=_context(ca_file) if parts.scheme == "rediss" else None,
        unix_path=parts.path if parts.scheme == "unix" else None,
    )


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"redis.password_file: {file}: {error}") from error


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"redis.ca_file: {ca_file}: {error}") from error
