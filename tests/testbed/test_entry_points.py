"""A channel of somebody else's package enters records and tables by its name alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.testbed.registry import registered_channels
from c2c.testbed.run import ChannelRun, run_test_bed
from paper.communication import decomposition, messages, scorecard
from paper.reading.messages import load_records

PAGE = Path(__file__).parents[2] / "docs" / "testbed.md"
NAME = "upper_values"


def install(folder: Path, entry_points: str, program: str = "") -> None:
    """A distribution with one module, as an installer lays it out."""
    (folder / "my_package.py").write_text(program)
    facts = folder / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[c2c.channels]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder of packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "my_package", raising=False)
    return folder


def example() -> str:
    """The class that the page shows."""
    section = PAGE.read_text(encoding="utf-8").split("## Your own channel")[1]
    (program,) = re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return str(program)


def test_the_example_of_the_page_has_forty_lines_at_most() -> None:
    assert len(example().rstrip().splitlines()) <= 40


def test_a_channel_of_another_package_enters_records_and_tables(folders, items_folder, site, tmp_path) -> None:
    install(site, f"{NAME} = my_package:UpperValues", example())
    channels = ["identity", "random_states", NAME]
    outputs = [tmp_path / "records" / f"seed{seed}.parquet" for seed in (0, 1)]
    for seed, output in enumerate(outputs):
        output.parent.mkdir(exist_ok=True)
        run_test_bed(
            ChannelRun(
                scale="test",
                pair="tiny",
                seed=seed,
                **folders,
                items=items_folder,
                channels=channels,
                test_items=8,
                output=output,
            )
        )
    records = load_records(outputs)
    rows = records.frame[records.frame["channel"] == NAME]
    assert set(rows["message"]) == {"matched", "deranged", "random", "zeroed", "self", "adapter"}
    # Two layers of one head of 12 numbers of 2 bytes
    assert set(rows.loc[rows["message"] == "matched", "bytes"]) == {2 * 12 * 2}
    for table in (scorecard, messages, decomposition):
        assert NAME in set(table.write(records, tmp_path / "table")["channel"]), table.__name__
        assert NAME in (tmp_path / "table.csv").read_text()


def test_a_channel_with_the_name_of_another_is_refused(site) -> None:
    install(site, "ridge = my_package:UpperValues")
    with pytest.raises(RefusedError, match="must have a name of its own"):
        registered_channels()
