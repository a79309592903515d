"""`python -m tools.samples`: runs every sample of the reference and writes what it prints (make samples)."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.samples.blocks import recorded, samples
from tools.samples.files import write_files
from tools.samples.running import PAGES, ROOT, run, stack

NODE: Final = ROOT / ".venvs" / "node"


def main() -> int:
    """Run the samples of the pages that are named, or of all."""
    names = sys.argv[1:] or sorted(path.stem for path in PAGES.glob("*.md"))
    failed = 0
    with stack() as address, tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        for name in names:
            page = (PAGES / f"{name}.md").read_text("utf-8")
            prints = {}
            for number, sample in enumerate(samples(page)):
                if sample.language == "js" and not NODE.exists():
                    continue
                started = time.monotonic()
                try:
                    prints[number] = run(sample, address, Path(folder), NODE)
                except Exception as error:  # noqa: BLE001 - a sample may fail in every way
                    failed += 1
                    print(f"{name}, sample {number} ({sample.language}): {error!r}\n{sample.text}")
                print(f"{name} {number} {sample.language} {time.monotonic() - started:.2f} s")
            (PAGES / f"{name}.md").write_text(recorded(page, prints), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
