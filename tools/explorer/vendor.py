"""`python -m tools.explorer.vendor`: fetches Swagger UI by npm and writes it, packed, into the package (make explorer).

Packed, because it is a third of the size and browsers unpack it; always the same bytes for the same version.
"""

import gzip
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

VERSION: Final = "5.35.0"
TARGET: Final = Path(__file__).resolve().parents[2] / "aibrix_extproc" / "adapters" / "http" / "explorer"
PACKED: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
TEXTS: Final = {"LICENSE": "LICENSE", "NOTICE": "NOTICE", "swagger-ui-bundle.js.LICENSE.txt": "LICENSES-OF-PARTS"}


def main() -> None:
    """Write the files of VERSION."""
    with tempfile.TemporaryDirectory() as folder:
        pack = ("npm", "pack", f"swagger-ui-dist@{VERSION}", "--silent", "--pack-destination", folder)
        subprocess.run(pack, check=True, stdout=sys.stderr)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            for name in PACKED:
                (TARGET / f"{name}.gz").write_bytes(gzip.compress(_read(files, name), 9, mtime=0))
            for name, kept in TEXTS.items():
                (TARGET / kept).write_bytes(_read(files, name))
    (TARGET / "VERSION").write_text(f"swagger-ui-dist {VERSION}\n")


def _read(files: tarfile.TarFile, name: str) -> bytes:
    found = files.extractfile(f"package/{name}")
    assert found is not None
    return found.read()


if __name__ == "__main__":
    main()
