"""YAML files: types as OmegaConf's, text where it is asked for, and one sentence with path, line and remedy for each mistake."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sap_core.yaml_files import key_line, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb:\n\tc: 2\n", "line 3: the line is indented with a tab; indent with spaces"),
        (b"\ta: 1\n", "line 1: the line is indented with a tab"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key a is there twice; remove one of them"),
        (b"x:\n  a: 1\n  a: 3\n", "line 3: the key a is there twice"),
        ("a: 1\nb: Größe\n".encode("latin-1"), "line 2: byte 0xf6 is not UTF-8; save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "line 1: the file is encoded in UTF-16; save it as UTF-8"),
        ("a: 1\n".encode("utf-16-be"), "line 1: the file is encoded in UTF-16"),
        (b"a: 1\n---\nb: 2\n", "line 2: a second document begins (---); keep one document in a file"),
        (b"a: *.jpg\n", "line 1: a value begins with a character that has a meaning in YAML (one of @ ` % & *); put the value in quotes"),
        (b"a: 1\nb: @x\n", "line 2: a value begins with a character that has a meaning"),
        (b"a: b: c\n", "line 1: a colon follows a value; put a value with ': ' in quotes"),
        (b"a:\n  b: 1\n c: 2\n", "line 3: did not find expected key; indent keys of one level alike"),
        (b"a: [1, 2\nb: 1\n", "close brackets"),
        (b"a: 'x\nb: 1\n", "line 1: found unexpected end of stream; "),
        (b"a: 1\nb: x\x07\n", "line 2: the character U+0007 is not allowed in YAML; remove it"),
        (b"a: !!python/object:os.system x\n", "line 1: !!python/object:os.system is a tag of YAML"),
        (b"a: &a [1, *a]\n", "line 1: an alias (*) stands inside of what it refers to"),
    ],
    ids=range(17),
)
def test_mistakes_are_one_sentence_with_file_line_and_remedy(tmp_path, content, said):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}, line ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfa: 1\n", {"a": 1}),
        (b"a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        (b"x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\n", {"x": {"p": 1, "q": 2}, "y": {"p": 1, "q": 3}}),
        (b"", None),
        (b"# nothing\n", None),
        (b"a: 1e-3\nb: 2026-12-01\n", {"a": 0.001, "b": "2026-12-01"}),
    ],
    ids=["byte order mark", "ends of lines of Windows", "merge key", "empty", "comment", "types"],
)
def test_what_is_no_mistake(tmp_path, content, expected):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    assert read_yaml(file).data == expected


LOOKS = ("1.10", "7e10234", "1_000", "0x1F", "on", "2026-12-01", "1:30", "007", "true", "nan")


def test_names_that_look_like_numbers_stay_text_where_they_are_text():
    document = parse_yaml(f"names: [{', '.join(LOOKS)}, null]\nother: {{x: 1.10}}\nabsent: null\n", "t", lambda keys: keys[0] != "other")
    assert document.data == {"names": [*LOOKS, "null"], "other": {"x": 1.1}, "absent": None}
    assert (("other", "x"), 1.1, "1.10") in document.written


@pytest.mark.parametrize("value", ["!x", "!x y", "!!python/name:os.system"])
def test_a_tag_before_a_text_does_not_vanish(value):
    with pytest.raises(UserError, match=r"t, line 2: .* is a tag of YAML, .* put a text that begins with ! in quotes"):
        parse_yaml(f"a: 1\nname: {value}\n", "t", lambda keys: True)
    assert parse_yaml("a: '!x'\nb: =\nc: !!str 1\n", "t", lambda keys: True).data == {"a": "!x", "b": "=", "c": "1"}


def test_the_line_of_a_key_or_of_the_last_one_above_it_that_is_there():
    text = "# comment\na: 1\nb:\n  c: {d: 1}\n"
    assert [key_line(text, keys) for keys in (["a"], ["b", "c", "d"], ["b", "x"], ["x"], [])] == [2, 4, 3, None, None]


def test_aliases_of_aliases_are_refused_in_time(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"its aliases \(\*\) expand to more than 100,000 values"):
        read_yaml(path)
