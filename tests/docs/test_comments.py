"""Comments of YAML files and docstrings, as the reference pages show them."""

from docs.generate.comments import read
from docs.generate.text import docstring, escaped, plain, table

FILE = """\
# @package _global_
# What it is.
# More about it,
# on two lines.
# Source: a paper.
# Cost of all: much; `see` it.

# A remark on nothing.

# number of things
count: 3
rate: 0.5          # share of things: 0.1 # of them
                   # and of others
name: "a # b"      # text
nested:
  inner: [1, 2]    # a list
  # above the key
  other: null
last: x            # the end
# not of the next key, which has its own
own: y             # own
"""


def test_comments_belong_to_their_keys(tmp_path):
    (tmp_path / "file.yaml").write_text(FILE)
    found = read(tmp_path / "file.yaml")
    assert found.summary == "What it is."
    assert found.paragraphs == ["More about it, on two lines.", "Source: a paper.", "Cost of all: much; `see` it."]
    assert list(found.entries()) == [
        ("count", 3, "number of things"),
        ("rate", 0.5, "share of things: 0.1 # of them and of others"),
        ("name", "a # b", "text"),
        ("nested.inner", [1, 2], "a list"),
        ("nested.other", None, "above the key"),
        ("last", "x", "the end"),
        ("own", "y", "own"),
    ]
    assert next(found.entries("nested")) == ("inner", [1, 2], "a list")


def test_text_has_no_accidental_markup():
    assert escaped("a * b < c, _target_ and my_name, `x * y`") == r"a \* b \< c, \_target\_ and my_name, `x * y`"
    assert escaped("see docs/own_model.md.") == "see [own model](../own_model.md)."
    assert table(("a",), [("x | y",)]).endswith("| x \\| y |")


def test_values_are_those_of_yaml():
    assert [plain(value) for value in (1e-05, 0.5, None, True, "", [1e-05, False])] == [
        "1.0e-05",
        "0.5",
        "null",
        "true",
        '""',
        "[1.0e-05, false]",
    ]


def test_equations_are_code():
    def documented():
        """First.

            a = b * c
              + d

        Attributes:
            a: left out.

        Then:
        - one
        - two
        """

    assert docstring(documented) == "First.\n\n```text\na = b * c\n  + d\n```\n\nThen:\n\n- one\n- two"
