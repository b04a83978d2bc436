"""What a machine has is said by its system or by the limit of a container."""

import pytest

from handgrad.engines import fits
from handgrad.errors import UserError

CGROUP_FILES = [
    ("0::/a/b", "a/b/memory.max"),
    ("0::/a/b", "a/memory.max"),
    ("0::/a/b", "memory.max"),
    ("4:cpu,memory:/a/b", "memory/a/b/memory.limit_in_bytes"),
    ("4:memory:/not/here", "memory/memory.limit_in_bytes"),
]


@pytest.mark.parametrize(("line", "file"), CGROUP_FILES)
def test_a_containers_limit_counts_as_the_machines_memory(tmp_path, monkeypatch, line, file):
    monkeypatch.setattr(fits, "CGROUPS", tmp_path)
    monkeypatch.setattr(fits, "OWN_GROUPS", tmp_path / "cgroup")
    whole = fits.available()
    (tmp_path / "cgroup").write_text(f"12:pids:/\n{line}\n")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("max\n")
    assert fits.available() == whole
    (tmp_path / file).write_text("12345678\n")
    assert fits.available() == 12345678
    with pytest.raises(UserError, match=r"It needs 2\.0 GB of memory, and this machine has 0\.0 GB"):
        fits.require(2_000_000_000, "It")


def test_where_the_system_says_nothing_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(fits, "_limits", lambda: iter(()))
    fits.require(10**30, "It")
