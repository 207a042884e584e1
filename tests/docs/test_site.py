"""The site builds strictly, and needs no network when it is read."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

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


def test_a_narrow_browser_without_a_network_shows_diagrams_and_searches(site, tmp_path):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    names = [
        "index",
        "design",
        "first_sweep",
        "commands",
        "tables",
        "log",
        "reference/methods",
        "reference/configuration",
        "reference/library",
    ]
    search = "index.html?q=alpha16_size5"
    script = (Path(__file__).parent / "probe.js").read_text().replace("PAGES", json.dumps([*(f"{name}.html" for name in names), search]))
    probe = site / "probe.html"
    probe.write_text(f"<body><script>{script}</script></body>")
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    probe.unlink()
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom)[1]))
    assert any("reference/methods.html" in link for link in seen.pop(search)["found"])
    assert {page: one["overflow"] for page, one in seen.items() if one["overflow"] > 0} == {}
    (diagram,) = seen["design.html"]["diagrams"]
    assert diagram > 300
