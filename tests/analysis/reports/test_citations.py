"""Every name that shipped configurations give to rows has a reference, or is this project's own; what is written is sound BibTeX."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.reports.citations import OWN, bibliography, entries, used
from analysis.store.load import load

CONF = Path(__file__).parents[3] / "conf"
GROUPS = {"method": "method", "dataset": "dataset", "noise": "noise", "model": "network", "trainer": "trainer", "pruner": "pruner"}


def shipped():
    """KIND/NAME of every choice, by the short name that its rows carry."""
    found = set()
    for group, kind in GROUPS.items():
        for path in (CONF / group).glob("*.yaml"):
            name = re.search(r"^name: *(\S+)", path.read_text(), re.M)[1]
            if name != "null":
                found.add(f"{kind}/{name}")
    return found


def test_every_shipped_name_has_a_reference_or_is_our_own():
    served = {use for entry in entries() for use in entry.uses}
    assert shipped() - served - OWN == set()
    assert served & OWN == set()
    assert (served | OWN) - shipped() <= {"tool/sap-sweep", "method/vanilla", "noise/none", "network/torchvision"}


def test_entries_are_sound():
    for entry in entries():
        assert entry.uses, entry.key
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry.text, re.M))
        assert "title" in fields, entry.key
        assert len(re.findall(r"^  ", entry.text, re.M)) == len(fields), f"{entry.key}: a field is there twice, or not in our form"
        for author in fields["author"].split(" and "):
            assert re.fullmatch(r"[^,]+, [^,]+|\{.*\}", author), f"{entry.key}: '{author}' is not 'Family, Given'"
        needed = {
            "article": {"journal", "year"},
            "inproceedings": {"booktitle", "year"},
            "techreport": {"institution", "year"},
            "misc": {"year"},
        }
        assert needed[re.match(r"@(\w+)", entry.text)[1]] <= set(fields), entry.key
        # plain.bst refuses both in proceedings.
        assert not (entry.text.startswith("@inproceedings") and "number" in fields), entry.key
        assert re.fullmatch(r"10\.\d{4,5}/[^\s_%&#]+", fields.get("doi", "10.1000/x")), entry.key
        assert re.fullmatch(r"(19|20)\d\d", fields.get("year", "2000")), entry.key
        for value in fields.values():
            assert value.count("{") == value.count("}"), entry.key
            assert not re.search(r"(?<!\\)[%&#$_]", value) or value.startswith("https://"), entry.key


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bibtex") is None, reason="bibtex is not installed")
@pytest.mark.parametrize("style", ["plain", "plainnat"])
def test_bibtex_has_no_warning(style, tmp_path):
    (tmp_path / "r.bib").write_text(bibliography({use for entry in entries() for use in entry.uses})[0])
    (tmp_path / "a.aux").write_text(f"\\citation{{*}}\n\\bibstyle{{{style}}}\n\\bibdata{{r}}\n")
    done = subprocess.run(["bibtex", "a"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower(), done.stdout
    assert len(entries()) == (tmp_path / "a.bbl").read_text().count("\\bibitem")


def test_every_entry_says_what_it_was_compared_with():
    blocks = re.split(r"\n\s*\n", (CONF.parent / "analysis/references.bib").read_text())[1:]
    assert [block for block in blocks if not re.search(r"^% (Checked|Not checked|This program)\b.*\.$", block, re.M)] == []


def test_keys_are_unique():
    keys = [entry.key for entry in entries()]
    assert len(keys) == len(set(keys))
    assert (CONF.parent / "analysis/references.bib").read_text().count("\n@") == len(keys)


def test_what_a_store_used(small, capsys, tmp_path):
    small.plan = [replace(line, noise="patch", method="mine} @x" if line.method == "scrub" else line.method) for line in small.plan]
    store = small.write()
    results = load([store])
    assert used(results)[:4] == ("method/mine} @x", "method/retrain", "method/sap", "method/scrub")
    text, lacking = bibliography(used(results))
    assert lacking == ("method/mine} @x",)
    assert re.findall(r"^@\w+\{(\w+),", text, re.M) == [
        "kodge2025sap", "kurmanji2023scrub", "goel2024corrective", "gu2017badnets", "alpaydin1998digits", "sapsweep",
    ]  # fmt: skip
    assert "% no reference is known for method/mine x\n" in text
    assert main([str(store), "cite"]) == 0
    assert capsys.readouterr().out == text
    assert main([str(store), "cite", str(tmp_path / "r.bib")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r.bib'}: 6 entries; without a reference: method/mine}} @x\n"
    assert (tmp_path / "r.bib").read_text() == text
