"""`python -m tools.site.build`: writes the site into build/site (make site).

Zensical was taken because MkDocs, which it follows, has had no release for years; it reads MkDocs' configuration, and
the pages are plain Markdown, so another generator can take its place. Pages stay where GitHub shows them: they are
copied, and links that leave `docs/` lead to other pages of the site, or lose their link. The site asks no other host
for anything.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
HOME: Final = ROOT / ".venvs" / "site"
PAGES: Final = ROOT / "build" / "site-pages"
SITE: Final = ROOT / "build" / "site"
# page of the repository -> page of the site
OTHERS: Final[Mapping[str, str]] = {
    "README.md": "index.md", "ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changes.md",
}  # fmt: skip
# Title of a section -> its pages, in order; pages that no section names come in the last one.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Use it": ("api.md", "streaming.md", "batches.md", "errors.md", "keys.md", "limits.md", "usage.md"),
    "Operations of the API": (),  # of docs/api
    "Operate it": (
        "operations.md", "configuration.md", "command-line.md", "security.md", "metrics.md", "control.md", "engines.md",
        "engine-operations.md", "adapters.md", "proxies.md", "endpoint-picker.md", "migrating-from-aibrix.md",
        "conformance.md", "strategies.md", "labels.md",
    ),
    "More": (),
}  # fmt: skip
_LINK: Final = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_DIAGRAM: Final = re.compile(r"^```mermaid\n.*?^```\n", re.DOTALL | re.MULTILINE)


def main() -> int:
    """Install the generator if need be, copy the pages, build."""
    install()
    copy_pages()
    (PAGES.parent / "mkdocs.yml").write_text(json.dumps(configuration()), encoding="utf-8")
    shutil.rmtree(SITE, ignore_errors=True)
    command = [str(HOME / "bin" / "zensical"), "build", "--clean"]
    ran = subprocess.run(command, cwd=PAGES.parent, capture_output=True, text=True, check=False)
    if ran.returncode:
        print(ran.stdout + ran.stderr, file=sys.stderr)
        return 1
    print(f"wrote {SITE}: {sum(1 for _ in SITE.rglob('*.html'))} pages; open {SITE / 'index.html'}")
    return 0


def install() -> None:
    """Make the generator's environment, unless it is there."""
    wanted, stamp = (HERE / "generator.txt").read_text(), HOME / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(HOME, with_pip=True)
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "generator.txt")], check=True)
    stamp.write_text(wanted)


def copy_pages() -> None:
    """Copy all pages, with links that hold on the site."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for source, target in OTHERS.items():
        shutil.copy(ROOT / source, PAGES / target)
    others = {PAGES / target: ROOT / source for source, target in OTHERS.items()}
    for page in PAGES.rglob("*.md"):
        origin = others.get(page, ROOT / "docs" / page.relative_to(PAGES))
        text = _DIAGRAM.sub("", page.read_text("utf-8"))  # a browser would fetch the program that draws them
        page.write_text(on_site(text, origin.parent, page.parent), encoding="utf-8")


def on_site(text: str, source: Path, folder: Path) -> str:
    """A page's text with links that hold on the site. `source` and `folder`: where the page was, and where it is."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], (source / found[2]).resolve(), found[3] or ""
        if target.is_relative_to(ROOT / "docs"):
            there = PAGES / target.relative_to(ROOT / "docs")
        elif target.is_relative_to(ROOT) and str(target.relative_to(ROOT)) in OTHERS:
            there = PAGES / OTHERS[str(target.relative_to(ROOT))]
        else:
            return words
        return f"[{words}]({os.path.relpath(there, folder)}{anchor})"

    return _LINK.sub(link, text)


def configuration() -> dict[str, object]:
    """MkDocs' configuration of the site; JSON is YAML."""
    listed = {page for pages in SECTIONS.values() for page in pages}
    rest = sorted(page.name for page in PAGES.glob("*.md") if page.name not in listed and page.name != "index.md")
    places = {row.id: place for place, row in enumerate(OPERATIONS)}
    operations = sorted(PAGES.glob("api/*.md"), key=lambda page: (places.get(page.stem, len(places)), page.stem))
    own = {"Operations of the API": [f"api/{page.name}" for page in operations], "More": rest}
    nav: list[object] = [{"Start": "index.md"}]
    nav += [{title: list(own.get(title) or pages)} for title, pages in SECTIONS.items()]
    return {
        "site_name": "aibrix-extproc",
        "docs_dir": PAGES.name,
        "site_dir": SITE.name,
        "use_directory_urls": False,
        "nav": nav,
        "theme": {
            "name": "material",
            "font": False,
            "features": ["navigation.tabs", "navigation.top", "search.highlight", "content.code.copy"],
            "palette": [
                {"media": f"(prefers-color-scheme: {kind})", "scheme": scheme, "toggle": {"icon": icon, "name": name}}
                for kind, scheme, icon, name in (
                    ("light", "default", "lucide/sun", "Dark"), ("dark", "slate", "lucide/moon", "Light"),
                )
            ],
        },
        "plugins": ["search"],
        "markdown_extensions": [
            "admonition", "attr_list", "tables", {"toc": {"permalink": True}}, "pymdownx.superfences",
            "pymdownx.highlight",
        ],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
