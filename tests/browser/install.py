"""Installs the SDKs and the driver of the browser into `.venvs/browser`; the browser itself comes from the system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".venvs" / "browser"
BUNDLE = HOME / "sdks.js"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str | None:
    """The path of a Chromium: the variable CHROMIUM, or one of the usual names."""
    named = os.environ.get("CHROMIUM")  # noqa: TID251 (a tool of the tests, no setting of the gateway)
    return named or next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def main() -> None:
    """Install what package.json names, and bundle the SDKs as a web page would."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed: install Node.js and try again")
    wanted = (HERE / "package.json").read_text()
    stamp = HOME / "package.json"
    if not (stamp.exists() and stamp.read_text() == wanted and BUNDLE.exists()):
        HOME.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"], cwd=HOME, check=True)
        entry = HOME / "entry.mjs"
        entry.write_text('export { default as OpenAI } from "openai";\n'
                         'export { default as Anthropic } from "@anthropic-ai/sdk";\n')  # fmt: skip
        bundle = [str(HOME / "node_modules" / ".bin" / "esbuild"), str(entry), "--bundle", "--format=esm"]
        subprocess.run([*bundle, "--platform=browser", "--log-level=error", f"--outfile={BUNDLE}"], check=True)


if __name__ == "__main__":
    main()
