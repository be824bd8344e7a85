"""The reference's quirks: none by default, all with `protocol: paper`, and what each of them does to a score."""

import pandas as pd
import pytest

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.evaluation import scoring
from c2c.evaluation.protocol import CORRECTED, PAPER, QUIRKS, active
from tests.paper.builder import Bench, Run, make_records, write


def accuracy(records: pd.DataFrame, protocol: str) -> tuple[float, int]:
    scores = scoring.score_records(records, protocol)
    rows = scores[(scores.subset == "all") & (scores.metric == "accuracy") & (scores.method == "sharer")]
    return float(rows.value.iloc[0]), int(rows.n.iloc[0])


@pytest.fixture
def letters() -> pd.DataFrame:
    return make_records([Run("gap_a")], Bench(["openbookqa"]))


def test_every_quirk_is_described_and_off_by_default():
    for name, description in QUIRKS.items():
        assert description and active(PAPER, name) and not active(CORRECTED, name)


@pytest.mark.parametrize(("protocol", "name"), [("papers", "letter_extraction"), ("paper", "no_such_quirk")])
def test_an_unknown_protocol_or_quirk_is_refused(protocol, name):
    with pytest.raises(RefusedError, match="known name"):
        active(protocol, name)


def test_failed_questions_are_left_out_of_the_paper_s_mean_and_counted_as_failed(letters):
    row = letters[letters.method == "sharer"].index[0]
    letters.loc[row, ["error", "output_text"]] = ["out of memory", None]
    assert accuracy(letters, CORRECTED) == (97.5, 40) and accuracy(letters, PAPER) == (100, 39)
    failed = scoring.score_records(letters, PAPER).query(
        "metric == 'failed' and method == 'sharer' and subset == 'all'"
    )
    assert (failed.value.iloc[0], failed.n.iloc[0]) == (2.5, 40)


def test_the_paper_s_extraction_reads_letters_inside_words(letters):
    letters["output_text"] = "The answer is Apple"
    letters["gold"] = "A"
    assert accuracy(letters, CORRECTED)[0] == 0 and accuracy(letters, PAPER)[0] == 100


def test_letters_beyond_d_are_never_right_in_the_paper_s_protocol(letters):
    letters = letters.assign(gold="E", output_text="The answer is E.", choices=[list("abcdefghij")] * len(letters))
    assert accuracy(letters, CORRECTED)[0] == 100 and accuracy(letters, PAPER)[0] == 0


def test_the_paper_s_gold_of_gsm8k_stops_at_the_comma_and_that_of_other_benchmarks_does_not(letters):
    letters = letters.assign(scoring="math", gold="#### 70,000", output_text="Answer: 70,000", benchmark="gsm8k")
    assert accuracy(letters, CORRECTED)[0] == 100 and accuracy(letters, PAPER)[0] == 0
    assert accuracy(letters.assign(benchmark="math_500"), PAPER)[0] == 100


def test_the_command_takes_the_protocol(letters, tmp_path):
    records = write(letters.assign(gold="A", output_text="Apple"), tmp_path / "records.parquet")
    found = {}
    for protocol in (CORRECTED, PAPER):
        output = tmp_path / f"{protocol}.csv"
        assert main(["score", "--records", str(records), "--output", str(output), "--protocol", protocol]) == 0
        found[protocol] = pd.read_csv(output).query("metric == 'accuracy'")["value"].max()
    assert found == {CORRECTED: 0, PAPER: 100}
