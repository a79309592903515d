"""`python -m charts.release FOLDER`: what a release has for Kubernetes, one `install-OVERLAY.yaml` for each overlay.

It refuses a version that CHANGELOG.md does not name, so that nothing is released without a line about it.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from aibrix_extproc import __version__
from charts.builds import MANIFESTS, ROOT, folders, rendered
from charts.write import files, stale

IMAGE: Final = f"aibrix-extproc:{__version__}"
EXIT_REFUSED: Final = 2


class ReleaseError(Exception):
    """One sentence about what keeps this from being a release."""


def check() -> None:
    """Raise ReleaseError if this is no release."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)$", changes, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has no heading `## {__version__} (YYYY-MM-DD)`: cut the version there first")
    if stale() or any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in files().items()):
        raise ReleaseError("the Helm chart is not current: run `make chart`")


def install_files(image: str) -> dict[str, str]:
    """The overlays' objects by file name, with an image of any registry."""
    found = {}
    for overlay in folders("overlays"):
        name = overlay.removeprefix("overlays/")
        text = rendered(MANIFESTS / overlay).replace(f"image: {IMAGE}\n", f"image: {image}\n")
        found[f"install-{name}.yaml"] = f"# aibrix-extproc {__version__}, overlay {name}: docs/operations.md\n{text}"
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m charts.release", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", default=IMAGE, help="where the image has been pushed to (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        check()
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return EXIT_REFUSED
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, text in install_files(args.image).items():
        (args.folder / name).write_text(text, encoding="utf-8")
        print(args.folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
