"use strict";
// Which answers of a cell are selected. Nothing here is a statistic: numbers of the 2×2 tables and of the outcomes come with
// the data, and a test compares them with the lengths of these selections.

(() => {
  const MISSING = "-";

  /** The selection that an address names; see `parametersOf`. */
  c2c.selectionOf = (cell, parameters) => {
    const marks = {};
    for (const part of (parameters.marks || "").split(",")) {
      const [arm, sign] = part.split(":");
      if (arm in cell.marks && "01".includes(sign)) marks[arm] = sign;
    }
    const trio = cell.trios.find((entry) => entry.matched === parameters.arm) || cell.trios[0];
    const pairs = cell.comparisons.map((entry) => `${entry.of},${entry.against}`);
    return {
      seed: cell.seeds.map(String).includes(parameters.seed) ? parameters.seed : "all",
      outcome: parameters.outcome || "",
      arm: trio ? trio.matched : "",
      pair: pairs.includes(parameters.pair) ? parameters.pair : pairs[0] || "",
      subset: parameters.subset || "",
      search: parameters.search || "",
      marks,
    };
  };

  /** The parameters of an address that name a selection. */
  c2c.parametersOf = (cell, selection) => ({
    seed: selection.seed === "all" ? "" : selection.seed,
    outcome: selection.outcome,
    arm: cell.trios.length && selection.arm !== cell.trios[0].matched ? selection.arm : "",
    pair: cell.comparisons.length && selection.pair !== `${cell.comparisons[0].of},${cell.comparisons[0].against}` ? selection.pair : "",
    subset: selection.subset,
    search: selection.search,
    marks: Object.entries(selection.marks).map(([arm, sign]) => `${arm}:${sign}`).join(","),
  });

  /** Numbers of the rows of a cell that are selected, in order. */
  c2c.selectedRows = (cell, selection, outcomes) => {
    const {ids, text, gold, subset} = cell.questions;
    // The words of a search are looked for in id, gold answer and text of each question, once a question.
    const words = selection.search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    cell.haystacks ??= ids.map((id, number) => `${id}\n${gold[number]}\n${text[number]}`.toLocaleLowerCase());
    const hits = ids.map((_, number) => (
      (!selection.subset || subset[number] === selection.subset) && words.every((word) => cell.haystacks[number].includes(word))
    ));
    const trio = cell.trios.find((entry) => entry.matched === selection.arm);
    const sign = String(outcomes.findIndex((entry) => entry.id === selection.outcome));
    const filters = Object.entries(selection.marks).map(([arm, wish]) => [cell.marks[arm], wish]);
    const rows = [];
    for (let row = 0; row < cell.question.length; row += 1) {
      if (!hits[cell.question[row]]) continue;
      if (selection.seed !== "all" && String(cell.seed[row]) !== selection.seed) continue;
      if (selection.outcome && (!trio || trio.outcomes[row] !== sign)) continue;
      // A failed question is wrong; one that an arm was not asked is neither.
      if (!filters.every(([signs, wish]) => (wish === "1" ? signs[row] === "1" : signs[row] === "0" || signs[row] === "f"))) continue;
      rows.push(row);
    }
    return rows;
  };

  const MARKS = {1: "1", 0: "0", p: "part", f: "failed", [MISSING]: ""};

  /** A text as a cell of CSV: quoted where needed, and never a formula of a spreadsheet. */
  const csvCell = (value) => {
    let text = String(value).replace(/\r\n?/g, "\n");
    if (/^[=+\-@\t＝＋－＠]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) text = `'${text}`;
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  /** Rows of a cell as CSV, with the mark of every arm and a link to each question. */
  c2c.csvText = (scale, cell, selection, rows, outcomes) => {
    const arms = cell.arms.map((arm) => arm.id);
    const trio = cell.trios.find((entry) => entry.matched === selection.arm);
    const head = ["scale", "pair", "benchmark", "question_id", "seed", "subset", "gold", "outcome", ...arms, "text", "page"];
    const lines = rows.map((row) => {
      const number = cell.question[row];
      const outcome = trio && trio.outcomes[row] !== MISSING ? outcomes[Number(trio.outcomes[row])].id : "";
      const id = cell.questions.ids[number];
      return [
        scale, cell.pair, cell.benchmark, id, cell.seed[row] < 0 ? "" : cell.seed[row], cell.questions.subset[number],
        cell.questions.gold[number], outcome, ...arms.map((arm) => MARKS[cell.marks[arm][row]]), cell.questions.text[number],
        c2c.address(["question", scale, cell.pair, cell.benchmark, id]),
      ].map(csvCell).join(",");
    });
    return `${[head.map(csvCell).join(","), ...lines].join("\n")}\n`;
  };

  /** Let the browser save a text as a file. */
  c2c.download = (name, text) => {
    const link = c2c.element("a", {href: URL.createObjectURL(new Blob([text], {type: "text/csv;charset=utf-8"})), download: name});
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
})();
