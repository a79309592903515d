"""A file of pages, one a line: pages are appended, and merged into a new file when it has grown to twice its size.

It holds hashes of keys and no keys; it is for its owner only. A last line that was not written whole is left out.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

from aibrix_extproc.core.control.feed import decode_page, encode_page, merged
from aibrix_extproc.core.control.rows import Page

MAX_BYTES: Final = 512 * 1024 * 1024
ROWS_OF_PAGE: Final = 2_000
_SLACK_BYTES: Final = 1024 * 1024
_MODE: Final = 0o600


class CacheError(Exception):
    """The file cannot be used; one sentence."""


class ControlCache:
    """Blocking: its methods run in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._merged_bytes = 0

    def load(self) -> tuple[Page, ...]:
        """All pages, merged; none if there is no file. Raises CacheError for a file that cannot be read."""
        pages = merged(self._read(), ROWS_OF_PAGE)
        if pages:
            self._replace(pages)
        return pages

    def append(self, page: Page) -> None:
        """Write a page down. Raises CacheError."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
            with os.fdopen(descriptor, "ab") as file:
                file.write(encode_page(page) + b"\n")
                size = file.tell()
        except OSError as error:
            raise self._failed(error) from error
        if size > 2 * self._merged_bytes + _SLACK_BYTES:
            self._replace(merged(self._read(), ROWS_OF_PAGE))

    def _read(self) -> list[Page]:
        pages = []
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size > MAX_BYTES:
                    raise CacheError(f"{self._path}: larger than {MAX_BYTES} bytes; remove it")
                for line in file:
                    pages.append(decode_page(line))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed(error) from error
        except ValueError:  # the process ended while it wrote; what follows it cannot be trusted either
            pass
        return pages

    def _replace(self, pages: tuple[Page, ...]) -> None:
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.writelines(encode_page(page) + b"\n" for page in pages)
                    self._merged_bytes = file.tell()
                os.replace(temporary, self._path)
            except OSError:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> CacheError:
        return CacheError(f"{self._path}: {os.strerror(error.errno or 0)}")
