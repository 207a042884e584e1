"""The site builds strictly, and needs no network when it is read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def pages(site):
    return sorted(site.rglob("*.html"))


def test_every_page_is_built(site):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert sources <= {page.relative_to(site) for page in pages(site)}


def test_nothing_is_loaded_from_a_server(site):
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?((?:https?:)?//[^\s\">]+)|<link[^>]*\shref=\"?((?:https?:)?//[^\s\">]+)"
    )
    for page in pages(site):
        assert loaded.findall(page.read_text()) == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", style.read_text()), style.name


def test_diagrams_have_their_script(site):
    drawn = [page for page in pages(site) if 'class="mermaid"' in page.read_text()]
    assert drawn
    for page in drawn:
        (script,) = re.findall(r'src="([^"]*mermaid[^"]*)"', page.read_text())
        assert (page.parent / script).resolve().is_file()


def test_links_and_anchors_lead_somewhere(site):
    anchors = {page: set(re.findall(r"\sid=\"?([^\s\">]+)", page.read_text())) for page in pages(site)}
    for page, own in anchors.items():
        if page.name == "404.html":
            continue
        for target, _, anchor in (link.partition("#") for link in re.findall(r"<a[^>]*\shref=\"?([^\s\">]+)", page.read_text())):
            if re.match(r"\w+:", target):
                continue
            other = (page.parent / target).resolve() if target else page
            assert other.exists(), f"{page.name}: {target}"
            if anchor and other.suffix == ".html":
                assert anchor in (own if other == page else anchors[other]), f"{page.name}: {target}#{anchor}"


def test_search_has_a_local_index(site):
    index = (site / "search/search_index.js").read_text()
    assert "alpha16_size5" in index
    assert "grid_b" in index
