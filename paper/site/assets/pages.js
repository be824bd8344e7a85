"use strict";
// Pages of claims, lists of cells, the paper's values and tables.

c2c.pages = {};

(() => {
  const {element, badge, link, table, facts, interval, axis} = c2c;
  const OWNERS = {paper: "Claims of the paper", project: "Claims of this project, about the controls"};

  const addressOf = (scale, cell) => (cell.pair ? c2c.address(["cell", scale, cell.pair, cell.benchmark]) : "");

  /** All claims, with the verdict of every scale. */
  c2c.pages.claims = async (main, parts, parameters) => {
    const index = await c2c.load("index");
    const state = {search: parameters.search || "", verdict: parameters.verdict || "", scale: parameters.scale || ""};
    const claims = new Map();
    for (const scale of index.scales) {
      for (const claim of scale.claims) claims.set(claim.id, {...claims.get(claim.id), [scale.scale]: claim});
    }
    const list = element("div");

    const draw = () => {
      c2c.rewrite(c2c.address([], state));
      const words = state.search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
      const scales = index.scales.filter((scale) => !state.scale || scale.scale === state.scale);
      const sections = Object.entries(OWNERS).map(([owner, title]) => {
        const rows = [...claims].filter(([id, byScale]) => {
          const first = Object.values(byScale)[0];
          const text = `${id} ${first.sentence} ${first.where}`.toLocaleLowerCase();
          const hasVerdict = !state.verdict || scales.some(({scale}) => byScale[scale]?.verdict === state.verdict);
          return first.of === owner && hasVerdict && words.every((word) => text.includes(word));
        }).map(([id, byScale]) => {
          const first = Object.values(byScale)[0];
          return [
            [link(c2c.address(["claim", id]), first.sentence), element("span", {class: "quiet small block"}, first.where)],
            ...scales.map(({scale}) => (byScale[scale] ? [
              badge(byScale[scale].verdict),
              byScale[scale].ours !== "not run" ? element("span", {class: "number small block"}, `${byScale[scale].ours} ${unitOf(byScale[scale])}`) : "",
            ] : "–")),
          ];
        });
        return rows.length ? [element("h2", {}, `${title} (${rows.length})`), table([["Claim", "wide"], ...scales.map(({scale}) => [scale, "verdict"])], rows, title)] : [];
      });
      list.replaceChildren(...(sections.flat().length ? sections.flat() : [element("p", {class: "quiet"}, "No claim is of this kind.")]));
    };

    const set = (name) => (value) => { state[name] = value; draw(); };
    c2c.fill(main,
      element("h1", {}, "What was claimed, and what the records show"),
      element("p", {class: "lead"}, "From each claim the links lead to its verdict at each scale, to the cells it rests on, to the questions on which "
        + "two arms differ, and to every single answer. All numbers come from the per-question records."),
      element("div", {class: "cards"}, index.scales.map((scale) => scaleCard(index, scale))),
      element("form", {class: "filters", onsubmit: (event) => event.preventDefault()},
        c2c.search("Search claims", state.search, set("search")),
        c2c.choice("Verdict", [["", "any"], ...index.verdicts.map((name) => [name, name])], state.verdict, set("verdict")),
        c2c.choice("Scale", [["", "all"], ...index.scales.map(({scale}) => [scale, scale])], state.scale, set("scale"))),
      list);
    draw();
    return "Claims";
  };

  const scaleCard = (index, scale) => element("section", {class: "card"},
    element("h2", {}, `Scale ${scale.scale}`),
    element("p", {class: "badges"}, index.verdicts.map((verdict) => {
      const number = scale.claims.filter((claim) => claim.verdict === verdict).length;
      return number ? element("span", {class: `badge ${verdict.replaceAll(" ", "-")}`}, `${number} ${verdict}`) : "";
    })),
    element("p", {class: "small"}, `${c2c.count(scale.records, "answer")}${scale.messages ? ` and ${c2c.count(scale.messages, "answer")} of the test bed` : ""}, from `,
      element("code", {}, scale.folder), scale.commits.length ? [", code ", element("code", {}, scale.commits.join(", "))] : ""),
    scale.remarks.map((remark) => element("p", {class: "small quiet"}, remark)),
    element("p", {class: "links"}, link(c2c.address(["cells", scale.scale]), "Cells"),
      scale.cells.some((cell) => cell.kind === "channel") ? link(c2c.address(["testbed", scale.scale]), "Test bed") : "",
      link(c2c.address(["tables", scale.scale]), "Tables")));

  const unitOf = (claim) => ({points: "points", percent: "%", ratio: "×"}[claim.unit] ?? "");

  /** One claim at every scale: verdict, paper, ours, difference, cells. */
  c2c.pages.claim = async (main, [id]) => {
    const index = await c2c.load("index");
    const entries = index.scales.flatMap((scale) => scale.claims.filter((claim) => claim.id === id).map((claim) => [scale, claim]));
    if (!entries.length) throw new Error(`There is no claim ${id} on this site.`);
    const first = entries[0][1];
    c2c.fill(main,
      c2c.breadcrumb(["Claims", "#/"], [id]),
      element("h1", {}, first.sentence),
      facts([["whose", first.of === "paper" ? `the paper's, ${first.where}` : "this project's"], ["evidence", first.kind.replaceAll("_", " ")],
        ...Object.entries(first.rule).map(([name, text]) => [name.replaceAll("_", " "), text])]),
      entries.map(([scale, claim]) => claimSection(scale, claim)),
      element("h2", {}, "On the command line"),
      element("pre", {}, `c2c claims show ${id}`));
    return first.sentence;
  };

  const claimSection = (scale, claim) => {
    const bound = Number(claim.rule.above ?? claim.rule.below ?? 0);
    const bars = axis(claim.evidence, Number.isFinite(bound) ? bound : 0);
    const other = claim.earlier || claim.replication;
    return element("section", {class: "scale"},
      element("h2", {}, `Scale ${scale.scale} `, badge(claim.verdict)),
      table([["", ""], ["Paper", "number"], ["Ours [95 %]", "number"], ["Difference", "number"], ["In size", "words"]],
        [[unitOf(claim) || claim.unit, claim.paper, claim.ours, claim.difference || "–", claim.size || (claim.difference ? "other pairs than the paper's: not judged" : "–")]],
        "The paper's value and ours"),
      facts([["questions", claim.n], ["seeds", claim.seeds], ["alignment", claim.alignment], ["detectable", claim.detectable === "–" ? "" : `${claim.detectable} ${unitOf(claim)}`],
        ["cells above / below / undecided / missing", ["above", "below", "undecided", "missing"].map((name) => claim.cells[name]).join(" / ")],
        ["reason", claim.reason], ["seeds of the cells", claim.seeds_note]]),
      other ? element("p", {class: "small"}, [claim.earlier, claim.replication].filter(Boolean)
        .map((entry) => element("span", {class: "block"}, `${entry.note}: ${entry.value} ${entry.unit || ""}`))) : "",
      claim.evidence.length ? table([["Cell", "wide"], ["Value [95 %]", "number"], ["", "plot"], ["n", "number"], ["Seeds", "number"], ["What its gains show", "words"]],
        claim.evidence.map((cell) => {
          const summary = scale.cells.find((entry) => entry.pair === cell.pair && entry.benchmark === cell.benchmark);
          return [link(addressOf(scale.scale, cell), cell.title), cell.text, interval(cell, bars), cell.n ?? "–", cell.seeds ?? "–", summary ? evidenceOf(summary) : "–"];
        }), `Cells of scale ${scale.scale}`) : "");
  };

  /** The evidence level of a channel, or the sentence on the gains of a pair. */
  const evidenceOf = (cell) => (cell.kind === "channel" && cell.level ? element("span", {class: "level"}, cell.level) : cell.words || "–");

  /** The cells of a scale: pairs on benchmarks. */
  c2c.pages.cells = async (main, [name]) => {
    const index = await c2c.load("index");
    const scale = c2c.scale(index, name || index.scales[0].scale);
    const cells = scale.cells.filter((cell) => cell.kind === "benchmark");
    const pairs = [...new Set(cells.map((cell) => cell.pair))];
    const hasGains = (pair) => cells.some((cell) => cell.pair === pair && Object.keys(cell.gains).length);
    const others = cells.filter((cell) => !hasGains(cell.pair));
    c2c.fill(main,
      c2c.breadcrumb(["Claims", "#/"], [`Cells of ${scale.scale}`]),
      element("h1", {}, `Pairs and benchmarks of scale ${scale.scale}`),
      scalesBar(index, scale, "cells"),
      element("p", {class: "lead"}, "Gains in points of accuracy with 95 % intervals; a star marks what differs from zero after Holm's adjustment. "
        + "Only pairing and communication together show communication."),
      pairs.filter(hasGains).map((pair) => {
        const rows = cells.filter((cell) => cell.pair === pair);
        const gains = Object.keys(rows.find((cell) => Object.keys(cell.gains).length).gains);
        return [element("h2", {}, rows[0].pair_title),
          table([["Benchmark", ""], ["Questions", "number"], ["Seeds", "number"], ["Arms", "number"], ...gains.map((gain) => [gain, "number"]), ["In words", "words"]],
            rows.map((cell) => [link(addressOf(scale.scale, cell), cell.benchmark_title), cell.questions, cell.seeds, cell.arms, ...gains.map((gain) => cell.gains[gain] || "–"), cell.words || "–"]),
            rows[0].pair_title)];
      }),
      others.length ? [element("h2", {}, "Pairs without all of these gains"),
        table([["Pair", "wide"], ["Benchmark", "middle"], ["Questions", "number"], ["Seeds", "number"], ["Arms", "number"]],
          others.map((cell) => [cell.pair_title, link(addressOf(scale.scale, cell), cell.benchmark_title), cell.questions, cell.seeds, cell.arms]), "Pairs without all of these gains")] : "");
    return `Cells of ${scale.scale}`;
  };

  const scalesBar = (index, scale, page) => element("p", {class: "links"}, index.scales
    .filter((entry) => page !== "testbed" || entry.cells.some((cell) => cell.kind === "channel"))
    .map((entry) => element("a", {href: c2c.address([page, entry.scale]), "aria-current": entry === scale ? "page" : undefined}, entry.scale)));

  /** The channels of the test bed of a scale. */
  c2c.pages.testbed = async (main, [name]) => {
    const index = await c2c.load("index");
    const first = index.scales.find((entry) => entry.cells.some((cell) => cell.kind === "channel"));
    if (!name && !first) {
      c2c.fill(main, element("h1", {}, "Test bed"), element("p", {}, "No scale of this site has records of the test bed. They come with"),
        element("pre", {}, index.scales.map((scale) => scale.commands.testbed).join("\n")));
      return "Test bed";
    }
    const scale = c2c.scale(index, name || first.scale);
    const cells = scale.cells.filter((cell) => cell.kind === "channel");
    const tasks = [...new Set(cells.map((cell) => `${cell.benchmark_title}: ${cell.pair_title}`))];
    c2c.fill(main,
      c2c.breadcrumb(["Claims", "#/"], [`Test bed of ${scale.scale}`]),
      element("h1", {}, `Channels of the test bed, scale ${scale.scale}`),
      scalesBar(index, scale, "testbed"),
      element("p", {class: "lead"}, "Each channel brings a message from the Sharer to the Receiver, which lacks one value of the text. Evidence follows from the "
        + "intervals alone: any message helps, this message helps, this message helps and parameters do not, at the ceiling."),
      cells.length ? "" : [element("p", {}, "This scale has no records of the test bed. They come with"), element("pre", {}, scale.commands.testbed)],
      tasks.map((task) => element("section", {}, element("h2", {}, task),
        table([["Channel", ""], ["Right, % [95 %]", "number"], ["CAG", "number"], ["Communication", "number"], ["Of full, %", "number"], ["Evidence", "words"]],
          cells.filter((cell) => `${cell.benchmark_title}: ${cell.pair_title}` === task).map((cell) => [
            link(addressOf(scale.scale, cell), cell.channel_title), ...["right", "CAG", "communication", "of_full"].map((gain) => cell.gains[gain] || "–"),
            cell.level ? evidenceOf(cell) : element("span", {class: "quiet"}, cell.words)]), task))));
    return `Test bed of ${scale.scale}`;
  };

  /** The paper's values: claims and cells of which both are there, and everything that the paper prints. */
  c2c.pages.paper = async (main, parts, parameters) => {
    const [index, printed] = await Promise.all([c2c.load("index"), c2c.load("printed")]);
    const claims = index.scales.flatMap((scale) => scale.claims.filter((claim) => claim.difference).map((claim) => [scale.scale, claim]));
    const state = {search: parameters.search || ""};
    const texts = printed.values.map((row) => Object.values(row).join(" ").toLocaleLowerCase());
    const count = element("p", {class: "quiet", "aria-live": "polite"});
    const list = new c2c.WindowedList({
      label: "Printed values", height: 46, empty: "No printed value has these words.",
      draw: (number) => {
        const row = printed.values[number];
        const place = [row.panel, row.receiver, row.sharer && `from ${row.sharer}`, row.method, row.benchmark].filter(Boolean).join(", ");
        return element("div", {class: "printed"}, element("span", {class: "nowrap"}, row.artefact), element("span", {class: "clip", title: place}, place),
          element("span", {class: "quiet clip"}, row.metric), element("span", {class: "number"}, `${row.value} ${row.unit}`));
      },
    });
    const draw = () => {
      c2c.rewrite(c2c.address(["paper"], state));
      const words = state.search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...texts.keys()].filter((number) => words.every((word) => texts[number].includes(word)));
      count.textContent = `${rows.length.toLocaleString("en")} of ${c2c.count(texts.length, "printed value")}`;
      list.set(rows);
    };
    c2c.fill(main,
      element("h1", {}, "Paper, ours, difference"),
      element("h2", {}, "Cells of which both have a value"),
      printed.compared.length ? table([["Cell", "wide"], ["Scale", ""], ["Table", ""], ["Paper, %", "number"], ["Ours [95 %]", "number"], ["Difference", "number"], ["Verdict", ""]],
        printed.compared.map((row) => {
          const cell = c2c.scale(index, row.scale).cells.find((entry) => entry.pair === row.pair && entry.benchmark === row.benchmark);
          return [link(cell ? addressOf(row.scale, cell) : "", row.title), row.scale, row.table, row.paper, row.ours, row.difference, row.verdict];
        }), "Cells of which both have a value")
        : [element("p", {}, "None: the scales of this site have other models or trainings than the paper. The paper's own pairs come with"), element("pre", {}, "snakemake --profile slurm")],
      element("h2", {}, "Claims of which both have a value"),
      element("p", {class: "quiet"}, "Where a scale has other pairs than the paper at this place, the difference tells of the pairs and no size is judged."),
      table([["Claim", "wide"], ["Scale", ""], ["Paper", "number"], ["Ours [95 %]", "number"], ["Difference", "number"], ["In size", "words"]],
        claims.map(([scale, claim]) => [link(c2c.address(["claim", claim.id]), claim.sentence), scale, `${claim.paper} ${unitOf(claim)}`, claim.ours, claim.difference, claim.size || "not judged"]),
        "Claims of which both have a value"),
      element("h2", {}, "Everything that the paper prints"),
      element("form", {class: "filters", onsubmit: (event) => event.preventDefault()}, c2c.search("Search printed values", state.search, (value) => { state.search = value; draw(); })),
      count, list.node);
    draw();
    return "The paper's values";
  };

  /** The tables of a scale, or one of them. */
  c2c.pages.tables = async (main, [name, table_name]) => {
    const index = await c2c.load("index");
    const scale = c2c.scale(index, name || index.scales[0].scale);
    const path = [["Claims", "#/"], [`Tables of ${scale.scale}`, c2c.address(["tables", scale.scale])]];
    if (!table_name) {
      c2c.fill(main, c2c.breadcrumb(...path), element("h1", {}, `Tables of scale ${scale.scale}`), scalesBar(index, scale, "tables"),
        element("ul", {class: "plain"}, scale.tables.map((entry) => element("li", {}, link(c2c.address(["tables", scale.scale, entry.name]), entry.title),
          element("span", {class: "quiet"}, ` ${entry.name}, ${c2c.count(entry.rows, "row")}`)))));
      return `Tables of ${scale.scale}`;
    }
    const content = await c2c.load(`${scale.scale}/tables/${table_name}`);
    const isNumber = (cell) => /^[+−-]?[\d.,]+( \[.*\])?[*%]?$|^–$|^not run$/.test(cell);
    const columns = content.head.map((title, number) => [title, content.rows.length && content.rows.every((row) => isNumber(row[number] ?? "–")) ? "number" : number ? "middle" : "wide"]);
    c2c.fill(main, c2c.breadcrumb(...path, [table_name]), element("h1", {}, content.title), element("p", {class: "lead"}, content.caption),
      table(columns, content.rows.map((row) => columns.map((_, number) => row[number] ?? "")), content.title),
      content.notes.map((note) => element("p", {class: "small quiet"}, note)));
    return content.title;
  };
})();
