"""The paper's printed values (``reference_values.csv``) and small formulas over them.

A formula is an id, a number, or a mapping with one of `FORMULAS` as its only key:
``{mean: "table-4/*/c2c/*/accuracy"}`` over the ids that match a shell pattern, ``{difference: [formula, formula]}``,
``{ratio: [formula, formula]}``, ``{sum: [formula, ...]}``, ``{count: pattern}``; ``{count_above: [pattern, pattern]}``,
or ``{share_above: ...}`` in percent: how many values of the first pattern lie above that of the second for the same
Receiver, Sharer and benchmark, where it names them.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError, check_choice
from c2c.storage.formats import read_yaml
from paper.reading import names
from paper.reading.files import read_csv

PATH = Path(__file__).parents[1] / "reference_values.csv"
PRINTED_PATH = Path(__file__).parents[1] / "printed.yaml"
MAIN = "Table 4"
"""The artefact of the paper with its main results."""
FORMULAS = ("mean", "difference", "ratio", "sum", "count", "count_above", "share_above")
ROLES = ("receiver", "sharer")
NOTE = re.compile(r" \(.*\)$")
"""What a printed row remarks on the model that it names."""
SYNONYMS = {"Single model": "Receiver", "+Gate (=C2C)": "C2C"}
"""What single tables of the paper call an arm that has another name elsewhere."""

Models = tuple[str | None, str | None]


class Reference:
    """Printed values by id, and by place."""

    def __init__(self, path: Path = PATH) -> None:
        """Read the values.

        Raises:
            RefusedError: It is no table of printed values, or an id stands twice.
        """
        self.frame = read_csv(path, keep_default_na=False, dtype=str)
        if gaps := sorted({"id", "artefact", "value"} - set(self.frame)):
            rule = f"{path.name} must have the columns of paper/reference_values.csv"
            raise RefusedError(rule, f"none named {', '.join(gaps)}", "Restore it")
        if (twice := self.frame["id"].duplicated()).any():
            raise RefusedError(
                "Ids of printed values must be unique", self.frame.loc[twice, "id"].iloc[0], "Rename one"
            )
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.numbers = pd.to_numeric(self.frame.set_index("id")["value"], errors="coerce")

    def evaluate(self, formula: Any) -> float:
        """The value of a formula.

        Raises:
            RefusedError: An id or pattern matches no printed number, or the formula is of no known kind.
        """
        if isinstance(formula, int | float):
            return float(formula)
        if isinstance(formula, str):
            return self._number(formula)
        ((kind, parts),) = formula.items()
        check_choice("The kind of a formula", kind, FORMULAS)
        if kind == "mean":
            return float(pd.Series(self._matching(parts)["value"]).mean())
        if kind == "count":
            return float(len(self._matching(parts)))
        if kind in ("count_above", "share_above"):
            is_above = self._are_above(*parts)
            return float(sum(is_above)) if kind == "count_above" else 100 * sum(is_above) / len(is_above)
        values = [self.evaluate(part) for part in parts]
        if kind == "sum":
            return sum(values)
        return values[0] - values[1] if kind == "difference" else values[0] / values[1]

    def values(self, path: Path = PRINTED_PATH) -> dict[str, list[dict[str, Any]]]:
        """The paper's values for each of our tables, by table: label, unit, value."""
        entries_by_table = read_yaml(path, f"Restore {path.name}")
        return {
            table: [entry | {"value": round(self.evaluate(entry["value"]), 4)} for entry in entries]
            for table, entries in entries_by_table.items()
        }

    def cell(self, pair: str, receiver: str, sharer: str, arm: str, benchmark: str) -> float | None:
        """The accuracy that the paper has among the main results of the pair; None where it has none."""
        main = names.places(pair)[:1]
        return self.find(main[0], "accuracy", pair, (receiver, sharer), arm, benchmark) if main else None

    def find(
        self, artefact: str, metric: str, pair: str, models: Models, arm: str, benchmark: str, panel: str = ""
    ) -> float | None:
        """The printed value of one cell, as `row` finds it."""
        row = self.row(artefact, metric, pair, models, arm, benchmark, panel)
        return None if row is None else float(row["value"])

    def row(
        self, artefact: str, metric: str, pair: str, models: Models, arm: str, benchmark: str, panel: str = ""
    ) -> dict[str, Any] | None:
        """The printed row of one cell, which is named by our ids; None where the paper has none, or several.

        Args:
            artefact: As in ``Table 9``.
            metric: As in ``accuracy``.
            pair: Id of the pair.
            models: Ids of its Receiver and Sharer, as in `of_pair`.
            arm: A method with its recipe, or what the paper calls it.
            benchmark: Id of a task; what follows a slash is a part of it.
            panel: Of the artefact, where it has several with such a cell.
        """
        task, _, part = benchmark.partition("/")
        cell = (_named("arms", arm), "/".join(filter(None, (_named("benchmarks", task), part))))
        rows = [
            row
            for row in self.of_pair(artefact, metric, pair, models)
            if (row["arm"], row["benchmark"]) == cell and panel in ("", row["panel"])
        ]
        return rows[0] if len(rows) == 1 else None

    def of_pair(self, artefact: str, metric: str, pair: str, models: Models) -> list[dict[str, Any]]:
        """The `rows` of an artefact that are of a pair: of its training (`names.places`) and of its models.

        Args:
            artefact: As in ``Table 9``.
            metric: As in ``accuracy``.
            pair: Id of the pair. Where it has no place in the artefact, there are no such rows.
            models: Ids of Receiver and Sharer. A printed row that names none of a role is of any; None is whichever the
                row names.
        """
        if artefact not in names.places(pair):
            return []
        models_of_pair = [
            (role, _named("models", name)) for role, name in zip(ROLES, models, strict=True) if name is not None
        ]
        return [
            row for row in self.rows(artefact, metric) if all(row[role] in (name, "") for role, name in models_of_pair)
        ]

    def rows(self, artefact: str, metric: str) -> list[dict[str, Any]]:
        """The printed numbers of an artefact, in the paper's words: id, panel, models, benchmark, arm, value."""
        key = (artefact, metric)
        if key not in self._rows:
            values = self.frame[(self.frame["artefact"] == artefact) & (self.frame["metric"] == metric)]
            self._rows[key] = [
                {
                    **{name: str(row[name]) for name in ("id", "panel")},
                    **{role: NOTE.sub("", str(row[role])) for role in ROLES},
                    "benchmark": str(row["benchmark"]).replace(" ", "_"),
                    "arm": _role(str(row["method"])),
                    "value": float(row["value"]),
                }
                for row in values.to_dict("records")
                if not pd.isna(pd.to_numeric(row["value"], errors="coerce"))
            ]
        return self._rows[key]

    def mean_of(self, artefact: str, arm: str) -> float | None:
        """Mean accuracy of a method over all cells of an artefact, or None."""
        rows = self.frame[(self.frame["artefact"] == artefact) & (self.frame["metric"] == "accuracy")]
        rows = rows[(rows["method"] == names.paper_name("arms", arm)) & (rows["benchmark"] != "average")]
        return float(rows["value"].astype(float).mean()) if len(rows) else None

    def ids(self, formula: Any) -> set[str]:
        """Ids of all printed values that a formula reads."""
        if isinstance(formula, dict):
            return set[str]().union(*(self.ids(part) for part in formula.values()))
        if isinstance(formula, list):
            return set[str]().union(*map(self.ids, formula))
        return set(self._matching(formula).index) if isinstance(formula, str) else set()

    def _matching(self, pattern: str) -> pd.DataFrame:
        """The rows with a number whose id matches a shell pattern, by id, with models as `rows` names them.

        Raises:
            RefusedError: There is none.
        """
        is_matching = [fnmatch(str(name), pattern) and not pd.isna(value) for name, value in self.numbers.items()]
        rows = self.frame.set_index("id")[is_matching]
        if rows.empty:
            raise RefusedError("A pattern must match printed values", pattern, "Look for ids in reference_values.csv")
        models = {role: rows[role].str.replace(NOTE, "", regex=True) for role in ROLES}
        return rows.assign(value=self.numbers[is_matching], **models)

    def _are_above(self, pattern: str, lower_pattern: str) -> list[bool]:
        """Of each value whether it lies above that of the same cell under another pattern.

        Raises:
            RefusedError: A cell has no such value, or several.
        """
        below = self._matching(lower_pattern)
        comparisons = []
        for name, row in self._matching(pattern).iterrows():
            is_same = pd.Series(True, below.index)
            for key in (*ROLES, "benchmark"):
                is_same &= below[key].isin([row[key], ""])
            values = below.loc[is_same, "value"]
            if len(values) != 1:
                raise RefusedError(
                    f"{lower_pattern} must match one printed value of each cell", name, "Narrow the pattern"
                )
            comparisons.append(bool(row["value"] > values.iloc[0]))
        return comparisons

    def _number(self, name: str) -> float:
        if name not in self.numbers.index or pd.isna(self.numbers[name]):
            raise RefusedError("An id must name a printed number", name, "Look for ids in reference_values.csv")
        return float(self.numbers[name])


def _named(kind: str, name: str) -> str:
    """What the paper calls our id; a name of the paper is one itself."""
    return names.paper_name(kind, name) or name


def _role(method: str) -> str:
    """The method of a printed row: ``Qwen3-4B (Sharer)`` is the Sharer, ``C2C (C2C-C by magnitude)`` C2C-C."""
    match = re.search(r"\((Sharer|Receiver|C2C-C)\b", method)
    return match.group(1) if match else SYNONYMS.get(method, method)
