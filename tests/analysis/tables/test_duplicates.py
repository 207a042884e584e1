"""The table of images that occur more than once: counted from the list in the store; a damaged list is named."""

import pytest

from analysis.store.load import load
from analysis.tables.duplicates import FILE, duplicates

LIST = "data_set,kind,group,dropped\nmine,copy,1,no\nmine,copy,1,yes\nmine,leak,2,no\n"


def test_images_are_counted_by_data_set_and_kind(small):
    store = small.write()
    (store / FILE).write_text(LIST)
    (table,) = duplicates(load([store]))
    assert [[cell.text for cell in row] for row in table.rows] == [["mine", "copy", "1", "2", "1"], ["mine", "leak", "1", "1", "0"]]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"data_set,kind\nmine,copy\n", b'data_set,kind,group,dropped\n"mine', b"\x1f\x8b\x00"]
)
def test_a_list_that_cannot_be_read_is_named_once(small, content):
    store = small.write()
    (store / FILE).write_bytes(content)
    results = load([store])
    assert duplicates(results) == duplicates(results) == ()
    (sentence,) = results.damage
    assert f"{store / FILE} cannot be read" in sentence


def test_no_list_is_no_damage(small):
    results = load([small.write()])
    assert duplicates(results) == ()
    assert results.damage == []
