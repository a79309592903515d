"""Clients of HTTP read answers within bounds."""

import aiohttp


async def read_bounded(content: aiohttp.StreamReader, most_bytes: int) -> bytes | None:
    """The whole content; None if it is longer."""
    parts: list[bytes] = []
    size = 0
    while part := await content.readany():
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            return None
    return b"".join(parts)
