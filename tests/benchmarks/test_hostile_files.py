"""Damaged model files are refused in a sentence or are models: thousands in benchmarks/hostile_files.py."""

import hostile_files
import pytest


@pytest.mark.parametrize("name", hostile_files.FORMATS)
def test_damaged_files_are_refused_or_are_models(name):
    assert list(hostile_files.defects(name, range(40))) == []


def test_another_error_is_a_defect(monkeypatch):
    def careless(source):
        raise KeyError("block_count")

    good = hostile_files.FORMATS["gguf"]
    monkeypatch.setitem(hostile_files.FORMATS, "gguf", good._replace(load=careless))
    assert list(hostile_files.defects("gguf", [7])) == ["gguf 7: KeyError: 'block_count'"]


def test_the_same_number_damages_in_the_same_way(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = hostile_files.write_gguf(tmp_path / name)
        hostile_files.change(tmp_path / name, hostile_files.random.Random(3))
        found.append(path.read_bytes())
    assert found[0] == found[1] != hostile_files.write_gguf(tmp_path).read_bytes()
