"""Pages of cells: the arms of a pair on a benchmark, their paired differences, 2×2 tables, and every answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from c2c.evaluation.scoring import answer_texts
from c2c.stats import GAINS, NO_SEED, accuracy_with_interval, exact_mcnemar, is_graded
from c2c.testbed.card.numbers import p_value, show
from paper.reading import names
from paper.reading.alignments import UNTRAINED
from paper.reading.answers import Answers, PairIds, difference
from paper.readme import GAINS as CONCLUDING
from paper.readme import gain_text, sentence_of
from paper.rows import percent
from paper.site.marks import ROW, Marks, trios
from paper.site.sources import ScaleFiles
from paper.tables import gains as gains_table
from paper.tables import margins as margins_table

HEAD = 1000
"""Characters of a question that its list shows and searches; the page of the question has all."""
RECEIVER = "receiver"
ANSWER_COLUMNS = ("output_text", "message", "sharer_question_id", "routed_to", "error")
"""Columns of a record that the page of a question shows where they hold something."""
COUNT_COLUMNS = ("tokens_in", "tokens_out", "sharer_tokens_in", "sharer_tokens_out")
SCORE_DIGITS = 4
SCORING_NOTES = {
    "likelihood": "Options have the log-likelihood of all their tokens, in nats; the greatest is the answer.",
    "logits": "Options have the log-probability of their letter as the next token; the greatest is the answer.",
    "text": "Options have the log-likelihood of their text, in nats; the greatest per character is the answer.",
    "letter": "The answer is the letter that the written text states.",
    "exact": "The answer is the written text without blanks around it, letter case and a full stop at its end.",
}
"""How the answer is taken under each scoring, as the pages explain it."""
OPTIONS = " · "
"""Between the options of a question in a list."""


@dataclass(frozen=True)
class CellPage:
    """One cell as the site shows it.

    Attributes:
        summary: What lists of cells show of it.
        body: What its own page shows, without the single answers.
        answers: What the page of each question shows, by question id.
    """

    summary: dict[str, Any]
    body: dict[str, Any]
    answers: dict[str, dict[str, Any]]


def cell_pages(files: ScaleFiles) -> Iterator[CellPage]:
    """A page for each pair and benchmark of a scale, in the order of ``names.yaml``."""
    answers = files.answers
    records = files.frame.assign(
        arm=answers.marked["arm"],
        answer=answer_texts(files.frame, files.protocol),
        seed=answers.marked["seed"],
        credit=answers.marked["correct"],
    )
    records["arm"] = [
        arm_id(answers, *key) for key in zip(records["pair"], records["arm"], records["alignment"], strict=True)
    ]
    gains, margins = gains_table.build(answers), margins_table.build(answers)
    for (pair, benchmark), rows in _in_order(answers, records):
        page = _AnswerCell(files, pair, benchmark, rows)
        of_cell = [
            frame[(frame["pair"] == pair.name) & (frame["benchmark"] == benchmark)] for frame in (gains, margins)
        ]
        yield CellPage(page.summary(*of_cell), page.body(*of_cell), page.questions())


def arm_id(answers: Answers, pair: str, arm: str, alignment: str) -> str:
    """An arm's name in a cell, with the token alignment where it is not the pair's main one."""
    return arm if alignment in (UNTRAINED, answers.main_alignment(pair)) else f"{arm}@{alignment}"


def arm_title(arm: str) -> str:
    """How the arm of `arm_id` is written."""
    name, *details = arm.split("@")
    words = [f"after {detail} steps" if detail.isdigit() else f"alignment {detail}" for detail in details]
    return ", ".join([names.title("arms", name), *words])


def estimate_row(estimate: Any, digits: int = 1, sign: bool = False, factor: float = 100) -> dict[str, Any]:
    """An estimate as the pages hold it: numbers for plots, and the text that tables print."""
    if estimate is None:
        return {}
    numbers = {name: round(factor * getattr(estimate, name), SCORE_DIGITS) for name in ("value", "low", "high")}
    text = show(*(factor * getattr(estimate, name) for name in ("value", "low", "high")), digits=digits, sign=sign)
    return {**numbers, "text": text, "n": estimate.n, "seeds": estimate.seeds}


class _AnswerCell:
    """The answers of all arms of a pair to a benchmark."""

    def __init__(self, files: ScaleFiles, pair: PairIds, benchmark: str, records: pd.DataFrame) -> None:
        self.files, self.pair, self.benchmark, self.records = files, pair, benchmark, records
        arms = list(dict.fromkeys(zip(records["arm"], records["alignment"], strict=True)))
        order = names.in_order("arms", {arm.partition("@")[0] for arm, _ in arms})
        self.arms = sorted(arms, key=lambda entry: (order.index(entry[0].partition("@")[0]), entry[0]))
        self.frames: dict[str, pd.DataFrame] = {}
        for arm, alignment in self.arms:
            # The alignment behind a name is no part of the arm's own name; a step is.
            name = arm.removesuffix(f"@{alignment}")
            frame = files.answers.get(pair.name, benchmark, name, alignment)
            assert frame is not None
            self.frames[arm] = frame
        self.marks = Marks.of_frames(self.frames, self._failures())

    def _failures(self) -> dict[str, pd.DataFrame]:
        records = self.records.assign(failed=self.records["error"].fillna("") != "")
        return {
            str(arm): rows.pivot(index="question_id", columns="seed", values="failed")
            for arm, rows in records.groupby("arm")
        }

    @property
    def scoring(self) -> str:
        """The rule that decides what is correct."""
        return str(self.records["scoring"].iloc[0])

    def summary(self, gains: pd.DataFrame, margins: pd.DataFrame) -> dict[str, Any]:
        """Ids, titles, the four gains and the sentence on them."""
        rows = gains.set_index("gain")
        four_gains = rows.reindex(CONCLUDING)
        nats = margins.set_index("gain")
        pairing = nats.loc["pairing"] if "pairing" in nats.index else None
        has_gains = bool(len(rows)) and not four_gains["value"].isna().any()
        return {
            "kind": "benchmark",
            "pair": self.pair.name,
            "benchmark": self.benchmark,
            "title": names.cell_title(self.pair.name, self.benchmark),
            "pair_title": names.title("pairs", self.pair.name),
            "benchmark_title": names.title("benchmarks", self.benchmark),
            "questions": len(self.frames[self.arms[0][0]]),
            "arms": len(self.arms),
            "seeds": max(frame.shape[1] for frame in self.frames.values()),
            "words": sentence_of(four_gains, pairing) if has_gains else "",
            "gains": {name: gain_text(row, 1) for name, row in four_gains.iterrows() if has_gains},
        }

    def body(self, gains: pd.DataFrame, margins: pd.DataFrame) -> dict[str, Any]:
        """Everything of the cell but its single answers."""
        return {
            "receiver": self.pair.receiver,
            "sharer": self.pair.sharer,
            "scoring": self.scoring,
            "scoring_note": SCORING_NOTES.get(self.scoring, ""),
            "chance": round(100 * self.files.answers.chance(self.benchmark), SCORE_DIGITS),
            "gains": [_gain_row(row) for row in gains.to_dict("records") if not pd.isna(row["value"])],
            "nats": [
                {
                    "title": names.title("gains", row["gain"]),
                    "text": show(row["value"], row["low"], row["high"], digits=2, sign=True),
                    **{name: round(float(row[name]), SCORE_DIGITS) for name in ("value", "low", "high")},
                    "p_holm": p_value(row["p_holm"]),
                }
                for row in margins.to_dict("records")
            ],
            "arms": [self._arm(arm, alignment) for arm, alignment in self.arms],
            "comparisons": self._comparisons(),
            **marks_body(self.marks, [arm for arm, _ in self.arms], RECEIVER),
            "questions": self._heads(),
        }

    def _arm(self, arm: str, alignment: str) -> dict[str, Any]:
        """One arm: its accuracy, that of each training, and the paired difference to the Receiver."""
        frame = self.frames[arm]
        seeds = [seed for seed in frame if seed != NO_SEED]
        first = self.records[self.records["arm"] == arm].iloc[0]
        numbers = percent(accuracy_with_interval(frame))
        return {
            "id": arm,
            "title": arm_title(arm),
            "method": first["method"],
            "recipe": first["recipe"],
            "alignment": alignment,
            **{name: round(float(numbers[name] or 0), SCORE_DIGITS) for name in ("value", "low", "high")},
            "text": show(numbers["value"], numbers["low"] or 0, numbers["high"] or 0),
            "n": len(frame),
            "seeds": len(seeds),
            "by_seed": {str(seed): estimate_row(accuracy_with_interval(frame[[seed]]))["text"] for seed in seeds},
            "failed": int((self.marks.signs[arm] == "f").sum()),
            "gain": estimate_row(self._difference(arm, RECEIVER), sign=True) if arm != RECEIVER else {},
        }

    def _difference(self, of: str, against: str) -> Any:
        return difference(self.frames.get(of), self.frames.get(against))

    def _comparisons(self) -> list[dict[str, Any]]:
        """Arms that are compared question by question: those of the gains first, then every arm with the Receiver."""
        pairs = [
            *GAINS.values(),
            *((arm, RECEIVER) for arm, _ in self.arms),
            *((trio.matched, trio.deranged) for trio in trios(self.frames)),
            *(("c2c", arm) for arm, _ in self.arms),
        ]
        rows = []
        for of, against in dict.fromkeys(pairs):
            estimate = None if of == against else self._difference(of, against)
            counts = self.marks.counts(of, against) if estimate else {}
            if estimate is None or not counts:
                continue
            frames = self.frames[of], self.frames[against]
            p_values = () if is_graded(*frames) else exact_mcnemar(*frames).p_values
            row = {"of": of, "against": against, "title": f"{arm_title(of)} − {arm_title(against)}", "counts": counts}
            rows.append(row | estimate_row(estimate, sign=True) | {"mcnemar": [*map(p_value, p_values)]})
        return rows

    def _heads(self) -> dict[str, Any]:
        """What the list of questions shows and searches, a value for each question id in order."""
        first = self.records.drop_duplicates("question_id").set_index("question_id").sort_index()
        texts = [self._text(row) for row in first.reset_index().to_dict("records")]
        # Without its text a question is known by its options.
        heads = [
            " ".join(filter(None, (text.get("private", ""), text.get("prompt", "")))) or OPTIONS.join(choices or ())
            for text, choices in zip(texts, map(_texts, first["choices"]), strict=True)
        ]
        return {
            "ids": [str(name) for name in first.index],
            "subset": [str(name or "") for name in first["subset"].fillna("")],
            "gold": [str(gold)[:HEAD] for gold in first["gold"]],
            "text": [head[:HEAD] for head in heads],
            "has_texts": any(texts),
        }

    def _text(self, row: dict[str, Any]) -> dict[str, Any]:
        """The text of a record's question, where a file has it and it is the question that was answered."""
        key = (row["benchmark"], row["prompts"], row["question_id"])
        text = self.files.texts.get(key, {})
        return text if text.get("question_hash") == row["question_hash"] else {}

    def questions(self) -> dict[str, dict[str, Any]]:
        """What the page of each question shows: its texts, and the answer of each arm and training."""
        pages: dict[str, dict[str, Any]] = {}
        order = {arm: number for number, (arm, _) in enumerate(self.arms)}
        rows = sorted(self.records.to_dict("records"), key=lambda row: (order[row["arm"]], row["seed"]))
        for row in rows:
            name = str(row["question_id"])
            if name not in pages:
                text = self._text(row)
                pages[name] = {
                    "gold": str(row["gold"]),
                    "choices": _texts(row["choices"]),
                    **{key: text[key] for key in ("prompt", "private") if text.get(key)},
                    "answers": [],
                }
            pages[name]["answers"].append(_answer(row, pages[name]["choices"]))
        return pages


def marks_body(marks: Marks, arms: Sequence[str], alone: str) -> dict[str, Any]:
    """The marks of a cell as its page holds them."""
    order = {name: number for number, name in enumerate(sorted({name for _, name in marks.rows}))}
    families = trios(arms, alone)
    return {
        "seeds": marks.seeds,
        ROW[0]: [seed for seed, _ in marks.rows],
        ROW[1]: [order[name] for _, name in marks.rows],
        "marks": {arm: marks.text(arm) for arm in arms},
        "trios": [
            {**trio._asdict(), "outcomes": marks.outcomes(trio), "tally": marks.tally(trio)} for trio in families
        ],
    }


def _in_order(answers: Answers, records: pd.DataFrame) -> Iterator[tuple[tuple[PairIds, str], pd.DataFrame]]:
    groups = dict(list(records.groupby(["pair", "benchmark"])))
    for pair in answers.all_pairs:
        for benchmark in answers.benchmarks:
            if (pair.name, benchmark) in groups:
                yield (pair, benchmark), groups[pair.name, benchmark]


def _answer(row: dict[str, Any], choices: list[str] | None) -> dict[str, Any]:
    """One record: what was answered, and whatever else it holds that is not empty."""
    answer = {"arm": row["arm"], "credit": row["credit"], "answer": row["answer"]}
    if row["seed"] != NO_SEED:
        answer["seed"] = int(row["seed"])
    if row["choice_scores"] is not None:
        answer["scores"] = [round(float(score), SCORE_DIGITS) for score in row["choice_scores"]]
    own_choices = _texts(row["choices"])
    if own_choices != choices:
        answer["choices"] = own_choices
    answer |= {name: row[name] for name in ANSWER_COLUMNS if isinstance(row[name], str) and row[name]}
    return answer | {name: int(row[name]) for name in COUNT_COLUMNS if row[name]}


def _texts(values: Any) -> list[str] | None:
    return None if values is None else [str(value) for value in values]


def _gain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table `gains` as the page shows it."""
    numbers = {name: round(float(row[name]), SCORE_DIGITS) for name in ("value", "low", "high")}
    return {
        "id": row["gain"],
        "title": names.title("gains", row["gain"]),
        "audit": row["audit"],
        "of": row["of"],
        "against": row["against"],
        "difference": f"{arm_title(row['of'])} − {arm_title(row['against'])}",
        **numbers,
        "text": show(row["value"], row["low"], row["high"], sign=True),
        "n": int(row["n"]),
        "seeds": int(row["seeds"]),
        "p": p_value(row["p_value"]),
        "p_holm": p_value(row["p_holm"]),
        "detectable": show(row["detectable"], float("nan"), float("nan")),
        "finding": row["finding"],
    }
