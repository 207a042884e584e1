"""Hooks of the site's build (mkdocs.yml): the Mermaid script, the page of benchmarks, and links to files outside of docs/."""

from __future__ import annotations

import re
from importlib.resources import files as package_files
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
MERMAID = "mermaid.min.js"
_OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:\w[\w.-]*/)+[\w.-]+|[A-Z][\w.]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds files from outside of docs/: Mermaid, benchmarks/README.md as a page, and every file that a page links to, as text."""
    script = package_files("mermaidx") / "assets" / "mermaid.js"
    files.append(File.generated(config, MERMAID, content=script.read_bytes()))
    benchmarks = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "benchmarks.md", content=benchmarks.replace("](../docs/", "](")))
    linked = {name for page in files.documentation_pages() for name in _OUTSIDE.findall(page.content_string)}
    for name in sorted(linked - {"benchmarks/README.md"}):
        files.append(File.generated(config, f"files/{name}.txt", content=(ROOT / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links to files outside of docs/ at their copies in the site, and drops what only GitHub's tables need."""
    up = "../" * page.file.src_uri.count("/")

    def copy(found: re.Match[str]) -> str:
        name = found[1]
        return f"]({up}benchmarks.md)" if name == "benchmarks/README.md" else f"]({up}files/{name}.txt)"

    # In a table GitHub wants \| for a bar in code; Python-Markdown would show the backslash.
    cells = re.sub(r"(?m)^\|.*$", lambda row: re.sub(r"`[^`]*`", lambda span: span[0].replace(r"\|", "|"), row[0]), markdown)
    return _OUTSIDE.sub(copy, cells)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Loads Mermaid on pages with a diagram only, because the script is large; the theme would fetch it from a server."""
    if 'class="mermaid"' not in output:
        return output
    up = "../" * page.file.dest_uri.count("/")
    return output.replace("</head>", f'<script src="{up}{MERMAID}"></script></head>', 1)
