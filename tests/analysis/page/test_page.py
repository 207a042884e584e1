"""The HTML page: its facts, the escaping of texts, and its rendering by a browser."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from analysis.__main__ import main
from analysis.commands.html import watch
from analysis.page.build import render_page
from analysis.page.facts import facts
from analysis.store.load import load

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '"><script>document.title="owned"</script><img src=x onerror="document.title=1">'


def test_the_facts_of_a_small_store(small):
    small.rows = [replace(row, peak_memory_bytes=2**20, report_seconds=0.25, dataset_verified=row.seed == 1) for row in small.rows]
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-0"]
    found = facts(load([small.write()]))
    assert [(count.name, count.planned, count.done, count.failed, count.missing) for count in found.counts] == [
        ("train", 2, 2, 0, 0),
        ("tune", 12, 9, 2, 1),
    ]
    assert found.failures == ((2, "SCRUB (grid_a), diverged: loss is NaN"),)
    assert found.seeds == (1, 2)
    assert found.unverified == ("digits",)
    assert [(noise.requested, noise.measured) for noise in found.noises] == [("25 %", "24.9 %")]
    assert found.sizes == "1097 training, 300 validation and 400 test samples"
    assert [(space.label, space.settings, space.hashes, space.ranges) for space in found.spaces] == [
        ("SAP (alpha16)", 3, ("hash-alpha16",), ("alpha: 2000 to 30000 (3 values)",)),
        ("SCRUB (grid_a)", 2, ("hash-grid_a",), ("lr: 0.01 to 0.1 (2 values)",)),
        ("Retrain", 1, (), ()),
    ]
    assert found.compute_seconds == pytest.approx(2 * 10 + 5 * 1 + 4 * 3 + 2 * 1 + 13 * 0.25)
    assert (found.commits, found.clean, found.exclusive, found.peak_memory_bytes) == (("abc",), True, True, 2**20)
    assert not facts(load([_changed(small, commit="abc+", jobs_on_device=3)])).clean
    assert not facts(load([_changed(small, commit="abc+", jobs_on_device=3)])).exclusive


def _changed(small, **columns):
    small.rows = [replace(row, **columns) for row in small.rows]
    return small.write()


def test_the_command_writes_one_file_that_needs_no_network(small, capsys, tmp_path):
    assert main([str(small.write()), "html", "--output", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "report.html"
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text()
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!#|data:)[a-z/]", text)
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("data:image/png;base64,") >= 1
    assert "81.00 ± 1.41" in text
    assert r"\begin{table*}" in text
    assert text == render_page(load(load([small.path]).stores))  # the same store gives the same page


@pytest.fixture
def hostile(small):
    """Every text of the store tries to be markup."""
    columns = {"dataset": HOSTILE, "noise": HOSTILE, "network": HOSTILE, "trainer": HOSTILE}
    small.plan = [replace(line, cell=HOSTILE, **columns) for line in small.plan]
    small.rows = [replace(row, experiment=HOSTILE, commit=HOSTILE, device=HOSTILE, **columns) for row in small.rows]
    small.rows = [replace(row, error=HOSTILE) if row.error else row for row in small.rows]
    small.plan = [replace(line, space=line.space and HOSTILE, settings=json.dumps({HOSTILE: line.position})) for line in small.plan]
    small.rows = [replace(row, space=row.space and HOSTILE, method=HOSTILE if row.method == "scrub" else row.method) for row in small.rows]
    (small.path / "rows").mkdir(parents=True)
    (small.path / "rows" / "<img src=x onerror=alert(1)>.parquet").write_bytes(b"half")
    return small.write()


def test_no_text_of_the_store_is_read_as_markup(hostile):
    text = render_page(load([hostile]))
    assert text.count("<script") == 1
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.parquet was skipped" in text


def test_a_page_of_every_kind_of_store(small):
    rows = small.rows
    small.rows = []
    empty = render_page(load([small.write()]), refresh=5)
    assert 'data-refresh="5"' in empty
    assert "0 of 14 rows" in empty
    small.rows = [replace(row, debug="smoke") for row in rows]
    smoke = render_page(load([small.write()]), refresh=5)
    assert "its numbers are meaningless" in smoke
    assert "data:image" not in smoke
    assert "<figure class" not in smoke
    assert "data-refresh" not in smoke  # nothing is missing


@pytest.mark.slow
def test_watching_ends_when_nothing_is_missing(small, tmp_path, capsys):
    last = small.rows.pop()
    store, path = small.write(), tmp_path / "report.html"
    seen = []

    def sleep(seconds):
        seen.append((seconds, "data-refresh" in path.read_text()))
        if len(seen) == 2:
            small.write_rows(f"{last.job_id}.ok.parquet", [last])

    assert watch(load([store]), path, 3.0, sleep).endswith("complete, no planned row is missing")
    assert seen == [(3.0, True)] * 2
    assert "data-refresh" not in path.read_text()
    assert capsys.readouterr().err.splitlines() == [f"{path}: 13 of 14 planned rows", f"{path}: 14 of 14 planned rows"]


@pytest.mark.slow
def test_watching_names_a_damaged_file_once_when_it_appears(small, tmp_path, capsys):
    last = small.rows.pop()
    store, seen = small.write(), []

    def sleep(seconds):
        seen.append(seconds)
        small.write_rows("another.ok.parquet", [last])
        if len(seen) == 3:
            raise KeyboardInterrupt

    results = load([store])
    watch(results, tmp_path / "report.html", 1.0, sleep)
    assert capsys.readouterr().err.count("another.ok.parquet") == 1
    assert len(results.damage) == 1


@pytest.mark.slow
def test_watching_ends_when_the_user_interrupts(small, tmp_path):
    small.rows.pop()

    def interrupted(seconds):
        raise KeyboardInterrupt

    assert watch(load([small.write()]), tmp_path / "report.html", 1.0, interrupted).endswith("interrupted; the file shows the last update")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_the_interval_must_be_positive(small, capsys, seconds):
    assert main([str(small.write()), "html", f"--watch={seconds}"]) == 2
    assert "is not a positive number of seconds" in capsys.readouterr().err


def seen_by_chromium(path, expression, *flags):
    """The value of a JavaScript expression in the page, as a real browser has it."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    probe = path.with_name("probe.html")
    probe.write_text(path.read_text() + f"<script>document.documentElement.dataset.seen = JSON.stringify(({expression}))</script>")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", *flags, "--dump-dom", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom).group(1)))


LOOK = """{
  title: document.title, scripts: document.querySelectorAll("script").length, images: document.querySelectorAll("img").length,
  pictures: [...document.images].every((one) => one.complete && one.naturalWidth > 300),
  loaded: performance.getEntriesByType("resource").length,
  wide: document.documentElement.scrollWidth - innerWidth, back: getComputedStyle(document.body).backgroundColor,
  tables: document.querySelectorAll("figure.table").length, order: (() => {
    const table = document.querySelector("figure.table table");
    const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
    const head = [...table.querySelectorAll("thead tr:last-child th")].find((one) => one.textContent.startsWith("validation, given"));
    const seen = [names()];
    for (let click = 0; click < 3; click++) { head.querySelector("button").click(); seen.push(names()); }
    return seen;
  })(),
}"""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "dark"), [("1400,900", False), ("500,900", True)], ids=["wide-light", "narrow-dark"])
def test_a_real_browser_shows_sorts_and_adapts(small, tmp_path, size, dark):
    path = tmp_path / "report.html"
    path.write_text(render_page(load([small.write()])))
    seen = seen_by_chromium(path, LOOK, f"--window-size={size}", *(["--force-dark-mode"] if dark else []))
    assert seen["title"] == "demo: sap-sweep report"
    assert seen["pictures"]
    assert seen["loaded"] == 0
    assert seen["wide"] <= 0  # tables scroll inside their cards, the page itself never sideways
    assert seen["back"] == ("rgb(18, 21, 26)" if dark else "rgb(251, 251, 250)")
    assert seen["tables"] >= 3
    given, falling, rising, again = seen["order"]
    assert given == again == ["Vanilla", "SAP (alpha16)", "SCRUB (grid_a)", "Retrain"]
    assert falling == ["Retrain", "SAP (alpha16)", "SCRUB (grid_a)", "Vanilla"]
    assert rising == falling[::-1]


@pytest.mark.slow
def test_a_real_browser_runs_nothing_of_the_store(hostile, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_page(load([hostile])))
    seen = seen_by_chromium(
        path, '{title: document.title, scripts: document.scripts.length, broken: document.querySelectorAll("img:not([alt])").length}'
    )
    assert seen == {"title": f"{HOSTILE}: sap-sweep report", "scripts": 2, "broken": 0}  # the page's own script, and the probe
