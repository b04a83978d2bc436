"""JSON from a file holds text that can be written again, or is refused."""

import json

import pytest

from handgrad.errors import UserError
from handgrad.formats.tables import Table


@pytest.mark.parametrize("fields", [{"name": "\ud800"}, {"\udfff": 1}, {"deep": [{"er": ["a\uda00b"]}]}])
@pytest.mark.parametrize("encoded", [str, str.encode])
def test_half_a_surrogate_pair_is_no_text(fields, encoded):
    with pytest.raises(UserError, match=r"a\.json is no JSON .*surrogates not allowed"):
        Table.parse(encoded(json.dumps(fields)), "a.json")


def test_a_whole_pair_is():
    assert Table.parse(json.dumps({"name": "🙂"}), "a.json").text("name") == "🙂"
