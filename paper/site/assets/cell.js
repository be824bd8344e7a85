"use strict";
// Pages of one cell and of one question.

(() => {
  const {element, link, table, facts, interval, axis} = c2c;
  const SIGNS = {1: ["✓", "right", "right"], 0: ["✕", "wrong", "wrong"], p: ["◐", "part", "part of a point"], f: ["!", "wrong", "failed"], "-": ["·", "none", "not asked"]};
  const LISTED = ["receiver", "c2c", "c2c_deranged", "adapter", "c2c_zeroed", "t2t", "sharer", "full", "matched", "deranged", "zeroed"];
  const MOST = 8;

  const sign = (mark) => {
    const [glyph, kind, word] = SIGNS[mark];
    return element("span", {class: `mark ${kind}`, title: word, role: "img", "aria-label": word}, glyph);
  };
  const titleOf = (cell, arm) => cell.arms.find((entry) => entry.id === arm)?.title ?? arm;
  const sectionOf = (cell) => (cell.kind === "channel" ? "testbed" : "cells");
  const pathOf = (scale, cell) => (cell.kind === "channel"
    ? [["Claims", "#/"], [`Test bed of ${scale.scale}`, c2c.address(["testbed", scale.scale])]]
    : [["Claims", "#/"], [`Cells of ${scale.scale}`, c2c.address(["cells", scale.scale])]]);

  /** The arms that the list of answers shows: those of the trio and of the marks first. */
  const listedArms = (cell, selection) => {
    const trio = cell.trios.find((entry) => entry.matched === selection.arm);
    const first = [...(trio ? [trio.alone, trio.matched, trio.deranged] : []), ...Object.keys(selection.marks)];
    return [...new Set([...first, ...LISTED])].filter((arm) => arm in cell.marks).slice(0, MOST);
  };

  const openCell = async ([scaleName, pair, benchmark]) => {
    const index = await c2c.load("index");
    const scale = c2c.scale(index, scaleName);
    const cell = await c2c.load(c2c.cellOf(scale, pair, benchmark).file);
    return {index, scale, cell};
  };

  /** A cell: gains, arms, 2×2 tables, and the list of its answers. */
  c2c.pages.cell = async (main, parts, parameters) => {
    const {index, scale, cell} = await openCell(parts);
    main.dataset.section = sectionOf(cell);
    c2c.fill(main,
      c2c.breadcrumb(...pathOf(scale, cell), [cell.title]),
      element("h1", {}, cell.title),
      element("p", {class: "lead"}, cell.level ? ["Evidence: ", element("span", {class: "level"}, cell.level)] : cell.words),
      facts(cell.kind === "channel"
        ? [["task", cell.benchmark_title], ["measure", cell.measure], ["items a seed", cell.questions.ids.length / cell.seeds.length], ["seeds", cell.seeds.join(", ")],
          ["bits", cell.card.bits], ["donor named, %", cell.card.donor], ["of full, %", cell.card.of_full], ["of own states, %", cell.card.of_own_states],
          ["bytes", cell.card.bytes], ["parameters", cell.card.parameters], ["added, ms", cell.card.time_added_ms], ["gate", cell.card.gate]]
        : [["Receiver", cell.receiver], ["Sharer", cell.sharer], ["scoring", cell.scoring], ["questions", cell.questions.ids.length],
          ["training seeds", cell.seeds.filter((seed) => seed >= 0).join(", ") || "none"], ["chance", `${cell.chance} %`]]),
      gainsSection(cell), armsSection(cell), questionsSection(index, scale, cell, parts, parameters));
    return cell.title;
  };

  const gainsSection = (cell) => {
    if (!cell.gains.length) return "";
    const bars = axis(cell.gains);
    const hasDetectable = cell.gains.some((gain) => gain.detectable);
    return element("section", {}, element("h2", {}, "Gains"),
      table([["Gain", ""], ["Difference", ""], ["Points [95 %]", "number"], ["", "plot"], ["n", "number"], ["Seeds", "number"], ["p (Holm)", "number"], ...(hasDetectable ? [["Detectable", "number"]] : [["Finding", ""]])],
        cell.gains.map((gain) => [[gain.title, gain.audit ? element("span", {class: "quiet"}, ` ${gain.audit}`) : ""], gain.difference, gain.text, interval(gain, bars), gain.n, gain.seeds, gain.p_holm, hasDetectable ? gain.detectable : gain.finding]), "Gains"),
      cell.nats?.length ? element("details", {}, element("summary", {}, "The same gains in nats"),
        table([["Gain", ""], ["Nats [95 %]", "number"], ["", "plot"], ["p (Holm)", "number"]],
          cell.nats.map((gain) => [gain.title, gain.text, interval(gain, axis(cell.nats)), gain.p_holm]), "Gains in nats")) : "");
  };

  const armsSection = (cell) => {
    const bars = axis(cell.arms, cell.chance ?? 0), gains = axis(cell.arms.map((arm) => arm.gain));
    const isDetail = (arm) => arm.id.includes("@");
    const hasFailures = cell.arms.some((arm) => arm.failed);
    const rows = (arms) => table([["Arm", ""], ["Right, % [95 %]", "number"], ["", "plot"], ["− Receiver, points [95 %]", "number"], ["", "plot"], ["n", "number"], ["By training seed", "words"], ...(hasFailures ? [["Failed", "number"]] : [])],
      arms.map((arm) => [arm.title, arm.text, interval(arm, bars, "plain"), arm.gain.text ?? "–", interval(arm.gain, gains), arm.n,
        Object.keys(arm.by_seed).length > 1 ? Object.entries(arm.by_seed).map(([seed, text]) => element("span", {class: "block nowrap small"}, `seed ${seed}: ${text}`)) : arm.seeds ? "one seed" : "no training",
        ...(hasFailures ? [arm.failed] : [])]), "Arms");
    const details = cell.arms.filter(isDetail);
    return element("section", {}, element("h2", {}, cell.kind === "channel" ? "Messages and bounds" : "Arms"), rows(cell.arms.filter((arm) => !isDetail(arm))),
      details.length ? element("details", {}, element("summary", {}, `${details.length} more: other steps and alignments`), rows(details)) : "");
  };

  /** 2×2 table, filters, and the list of answers that they select. */
  const questionsSection = (index, scale, cell, parts, parameters) => {
    const selection = c2c.selectionOf(cell, parameters);
    const address = () => c2c.address(["cell", ...parts], c2c.parametersOf(cell, selection));
    const table2x2 = element("div"), outcomes = element("div", {class: "chips"}), chips = element("div", {class: "chips"});
    const count = element("p", {class: "count", "aria-live": "polite"}), head = element("div", {class: "answers head"});
    let rows = [], arms = [];

    const list = new c2c.WindowedList({
      label: "Answers", height: 48, empty: "No answer is selected.",
      draw: (row) => {
        const number = cell.question[row], id = cell.questions.ids[number];
        const trio = cell.trios.find((entry) => entry.matched === selection.arm);
        const outcome = trio && index.outcomes[Number(trio.outcomes[row])];
        return element("div", {class: "answers"},
          element("span", {class: "clip text"},
            element("a", {href: c2c.address(["question", ...parts, id], c2c.parametersOf(cell, selection))}, id),
            cell.seed[row] >= 0 && !id.startsWith("seed") ? element("span", {class: "quiet small"}, ` seed ${cell.seed[row]}`) : "",
            element("span", {class: "block quiet small clip"}, cell.questions.text[number] || cell.questions.subset[number])),
          element("span", {class: "clip gold", title: cell.questions.gold[number]}, cell.questions.gold[number]),
          arms.map((arm) => sign(cell.marks[arm][row])),
          element("span", {class: "clip small quiet outcome", title: outcome?.meaning}, outcome?.title ?? ""));
      },
    });

    const draw = () => {
      const start = performance.now();
      c2c.rewrite(address());
      rows = c2c.selectedRows(cell, selection, index.outcomes);
      arms = listedArms(cell, selection);
      const columns = `minmax(8rem, 1fr) minmax(4rem, 8rem) repeat(${arms.length}, 4.2rem) minmax(0, 16rem)`;
      for (const node of [head, list.node]) node.style.setProperty("--columns", columns);
      for (const node of [head, list.node]) node.style.setProperty("--narrow", `minmax(0, 1fr) repeat(${Math.min(arms.length, 4)}, 3.1rem)`);
      head.replaceChildren(element("span", {}, "Question"), element("span", {class: "gold"}, "Gold"), ...arms.map(markButton), element("span", {class: "outcome"}, "What the message did"));
      drawTable();
      drawOutcomes();
      drawChips();
      count.textContent = `${rows.length.toLocaleString("en")} of ${cell.question.length.toLocaleString("en")} ${cell.kind === "channel" ? "answered items" : `answered questions${cell.seeds.length > 1 ? " (each once a training seed)" : ""}`}`;
      list.set(rows);
      list.node.dataset.milliseconds = Math.round(performance.now() - start);
    };

    /** The head of an arm's column: any mark, right ones, wrong ones. */
    const markButton = (arm) => {
      const wish = selection.marks[arm];
      const next = {undefined: "1", 1: "0", 0: undefined}[wish];
      return element("button", {type: "button", class: wish ? "on" : "", "data-arm": arm, title: "Any, right, wrong", onclick: () => {
        if (next === undefined) delete selection.marks[arm]; else selection.marks[arm] = next;
        draw();
        head.querySelector(`[data-arm="${CSS.escape(arm)}"]`)?.focus();
      }}, titleOf(cell, arm), wish ? sign(wish) : "");
    };

    const drawTable = () => {
      const pair = cell.comparisons.find((entry) => `${entry.of},${entry.against}` === selection.pair);
      if (!pair) { table2x2.replaceChildren(); return; }
      const counts = pair.counts[selection.seed] ?? pair.counts.all;
      const [of, against] = [titleOf(cell, pair.of), titleOf(cell, pair.against)];
      const box = (number, first, second) => {
        const isOn = selection.marks[pair.of] === first && selection.marks[pair.against] === second;
        return element("td", {}, element("button", {type: "button", class: isOn ? "on" : "", "aria-pressed": String(isOn), "data-box": `${first}${second}`,
          "aria-label": `${counts[number]} questions: ${of} ${first === "1" ? "right" : "wrong"}, ${against} ${second === "1" ? "right" : "wrong"}`, onclick: () => {
            selection.marks = isOn ? {} : {[pair.of]: first, [pair.against]: second};
            draw();
            table2x2.querySelector(`[data-box="${first}${second}"]`)?.focus();
          }}, counts[number].toLocaleString("en")));
      };
      table2x2.replaceChildren(element("table", {class: "two"},
        element("thead", {}, element("tr", {}, element("td", {}), element("th", {scope: "col"}, `${against} right`), element("th", {scope: "col"}, `${against} wrong`))),
        element("tbody", {},
          element("tr", {}, element("th", {scope: "row"}, `${of} right`), box(0, "1", "1"), box(1, "1", "0")),
          element("tr", {}, element("th", {scope: "row"}, `${of} wrong`), box(2, "0", "1"), box(3, "0", "0")))),
      element("p", {class: "small quiet"}, `${pair.title}: ${pair.text} points, n = ${pair.n}`, pair.mcnemar.length ? `; McNemar's exact p by seed: ${pair.mcnemar.join(", ")}` : ""));
    };

    const drawOutcomes = () => {
      const trio = cell.trios.find((entry) => entry.matched === selection.arm);
      outcomes.replaceChildren(...(trio ? index.outcomes.map((outcome) => element("button", {
        type: "button", class: `chip ${selection.outcome === outcome.id ? "on" : ""}`, title: outcome.meaning, "data-outcome": outcome.id,
        "aria-pressed": String(selection.outcome === outcome.id), onclick: () => {
          selection.outcome = selection.outcome === outcome.id ? "" : outcome.id;
          draw();
          outcomes.querySelector(`[data-outcome="${outcome.id}"]`)?.focus();
        },
      }, outcome.title, element("b", {}, trio.tally[selection.seed][outcome.id].toLocaleString("en")))) : []));
    };

    const drawChips = () => {
      const entries = Object.entries(selection.marks).map(([arm, wish]) => [`${titleOf(cell, arm)} ${wish === "1" ? "right" : "wrong"}`, () => delete selection.marks[arm]]);
      chips.replaceChildren(...entries.map(([text, act]) => element("button", {type: "button", class: "chip on", onclick: () => { act(); draw(); }}, `${text} ×`)));
    };

    const set = (name) => (value) => { selection[name] = value; draw(); };
    const subsets = [...new Set(cell.questions.subset)].filter(Boolean).sort();
    const status = element("span", {class: "small quiet", role: "status"});
    const section = element("section", {class: "questions"}, element("h2", {}, "Question by question"),
      element("div", {class: "filters"},
        cell.comparisons.length ? c2c.choice("Two arms", cell.comparisons.map((entry) => [`${entry.of},${entry.against}`, entry.title]), selection.pair, (value) => { selection.marks = {}; selection.pair = value; draw(); }) : "",
        cell.seeds.length > 1 ? c2c.choice("Training seed", [["all", "all"], ...cell.seeds.map((seed) => [String(seed), String(seed)])], selection.seed, set("seed")) : "",
        cell.trios.length > 1 ? c2c.choice("Message of", cell.trios.map((trio) => [trio.matched, titleOf(cell, trio.matched)]), selection.arm, set("arm")) : ""),
      table2x2,
      cell.trios.length ? element("p", {class: "small quiet"}, `What the message ${cell.kind === "channel" ? "" : `of ${titleOf(cell, selection.arm)} `}did, by the answer without it and with that of another question:`) : "",
      outcomes,
      element("div", {class: "filters"},
        c2c.search("Search questions", selection.search, set("search")),
        subsets.length > 1 ? c2c.choice("Part", [["", "all"], ...subsets.map((name) => [name, name])], selection.subset, set("subset")) : ""),
      chips,
      element("div", {class: "bar"}, count, element("span", {class: "buttons"},
        element("button", {type: "button", "data-act": "csv", onclick: () => c2c.download(`c2c-${scale.scale}-${cell.pair}-${cell.benchmark}-${rows.length}.csv`, c2c.csvText(scale.scale, cell, selection, rows, index.outcomes))}, "Download as CSV"),
        element("button", {type: "button", "data-act": "link", onclick: () => copy(location.href, status)}, "Copy link"), status)),
      textsNote(scale, cell), head, list.node,
      element("p", {class: "small quiet"}, "Keys: / searches; in the list the arrow keys move and Enter opens. A column's head selects right or wrong answers of its arm."));
    draw();
    return section;
  };

  const copy = async (text, status) => {
    try { await navigator.clipboard.writeText(text); status.textContent = "copied"; } catch { status.textContent = "copy it from the address bar"; }
  };

  /** Which command brings the texts that the records do not hold. */
  const textsNote = (scale, cell) => (cell.questions.has_texts ? "" : element("div", {class: "note"},
    element("p", {}, cell.kind === "channel"
      ? "The committed records hold no texts of the items. A run of the test bed brings them, and the site then shows them:"
      : "The texts of these questions are not in the repository, since their licences differ; the list shows their options. This command brings them, and the site then shows them:"),
    element("pre", {}, `${cell.kind === "channel" ? scale.commands.testbed : scale.commands.questions}\nmake site`)));

  /** One question: its texts, the message, and the answer of every arm. */
  c2c.pages.question = async (main, parts, parameters) => {
    const id = parts[3];
    const {index, scale, cell} = await openCell(parts);
    const number = cell.questions.ids.indexOf(id);
    if (number < 0) throw new Error(`${cell.title} has no question ${id}.`);
    const chunkName = (place) => `${c2c.cellOf(scale, cell.pair, cell.benchmark).file}-${String(Math.floor(place / cell.chunk)).padStart(3, "0")}`;
    const question = (await c2c.load(chunkName(number)))[id];

    // The next and the previous question of the selection from which one came.
    const selection = c2c.selectionOf(cell, parameters);
    const numbers = [...new Set(c2c.selectedRows(cell, selection, index.outcomes).map((row) => cell.question[row]))];
    const position = numbers.indexOf(number);
    const at = (place) => (numbers[place] === undefined ? "" : c2c.address(["question", ...parts.slice(0, 3), cell.questions.ids[numbers[place]]], parameters));
    const step = (text, place, key) => (position >= 0 && at(place) ? element("a", {href: at(place), "data-key": key, class: "step"}, text) : element("span", {class: "step quiet"}, text));

    const order = [...listedArms(cell, selection), ...cell.arms.map((arm) => arm.id)];
    const rank = (answer) => order.indexOf(answer.arm);
    const isDetail = (answer) => answer.arm.includes("@");
    const answers = [...question.answers].sort((first, second) => rank(first) - rank(second) || (first.seed ?? -1) - (second.seed ?? -1));
    const hrefOf = (other) => c2c.address(["question", ...parts.slice(0, 3), other], parameters);

    main.dataset.section = sectionOf(cell);
    c2c.fill(main,
      c2c.breadcrumb(...pathOf(scale, cell), [cell.title, c2c.address(["cell", ...parts.slice(0, 3)], parameters)], [id]),
      element("div", {class: "bar"}, element("h1", {}, id), element("span", {class: "buttons"},
        step("← previous", position - 1, "ArrowLeft"), element("span", {class: "quiet small"}, position >= 0 ? `${position + 1} of ${numbers.length} selected` : "not in the selection"), step("next →", position + 1, "ArrowRight"))),
      facts([["part", cell.questions.subset[number]], ["gold", question.gold]]),
      texts(scale, cell, question),
      messages(cell, answers),
      otherQuestions(cell, id, answers, hrefOf),
      element("section", {}, element("h2", {}, "Answers of each arm"), answersTable(cell, question, answers.filter((answer) => !isDetail(answer))),
        cell.scoring_note ? element("p", {class: "small quiet"}, cell.scoring_note) : "",
        answers.some(isDetail) ? element("details", {}, element("summary", {}, "Other steps and alignments"), answersTable(cell, question, answers.filter(isDetail))) : ""));
    return `${id}, ${cell.title}`;
  };

  const block = (title, text, kind = "") => element("figure", {class: `text ${kind}`}, element("figcaption", {}, title), element("pre", {}, text));

  const texts = (scale, cell, question) => element("section", {}, element("h2", {}, "What was read"),
    question.sharer_texts ? question.sharer_texts.map((text) => block("The Sharer reads", text, "sharer")) : "",
    question.private ? block("The Sharer alone reads, before the prompt", question.private, "sharer") : "",
    question.prompt ? block("The Receiver reads", chatText(question.prompt)) : "",
    question.full_prompt ? block("The bound “full text” reads", question.full_prompt) : "",
    question.prompt ? "" : textsNote(scale, {...cell, questions: {has_texts: false}}),
    question.choices ? element("ol", {class: "options", type: "A"}, question.choices.map((choice) => element("li", {class: choice === question.gold ? "gold" : ""}, choice, choice === question.gold ? " (gold)" : ""))) : "");

  /** The messages of a chat one below the other; a plain prompt as it is. */
  const chatText = (prompt) => {
    try {
      const turns = JSON.parse(prompt);
      if (Array.isArray(turns) && turns.every((turn) => turn.role)) return turns.map((turn) => `${turn.role}: ${turn.content}`).join("\n\n");
    } catch { /* a plain text */ }
    return prompt;
  };

  const messages = (cell, answers) => {
    const written = answers.filter((answer) => answer.message);
    return written.length ? element("section", {}, element("h2", {}, "Message that the Sharer wrote"),
      written.map((answer) => block(`${titleOf(cell, answer.arm)}${answer.seed === undefined ? "" : `, seed ${answer.seed}`}`, answer.message, "sharer"))) : "";
  };

  /** Whose question the Sharer read where it was not this one. */
  const otherQuestions = (cell, id, answers, hrefOf) => {
    const groups = Object.groupBy(answers.filter((answer) => answer.sharer_question_id && answer.sharer_question_id !== id && !answer.arm.includes("@")),
      (answer) => `${answer.arm}\n${answer.sharer_question_id}`);
    const list = Object.values(groups).map((group) => ({...group[0], seeds: group.map((answer) => answer.seed).filter((seed) => seed !== undefined).join(", ")}));
    if (!list.length) return "";
    return element("section", {}, element("h2", {}, "Whose question the Sharer read instead"),
      table([["Arm", ""], ["Seeds", ""], ["Question", ""], ["Its gold answer", ""], ["Its text", "wide"], ...(list.some((answer) => "donor_named" in answer) ? [["Named in the answer", ""]] : [])],
        list.map((answer) => {
          const other = cell.questions.ids.indexOf(answer.sharer_question_id);
          return [titleOf(cell, answer.arm), answer.seeds || "–", link(other < 0 ? "" : hrefOf(answer.sharer_question_id), answer.sharer_question_id), other < 0 ? "–" : cell.questions.gold[other],
            element("span", {class: "small"}, other < 0 ? "–" : cell.questions.text[other].slice(0, 160)), ...(list.some((entry) => "donor_named" in entry) ? ["donor_named" in answer ? (answer.donor_named ? "yes" : "no") : "–"] : [])];
        }), "Whose question the Sharer read instead"));
  };

  const answersTable = (cell, question, answers) => {
    const choices = question.choices || (answers.some((answer) => answer.scores) ? answers.find((answer) => answer.scores).scores.map((_, place) => `option ${place + 1}`) : null);
    const hasText = answers.some((answer) => answer.output_text), hasRoute = answers.some((answer) => answer.routed_to), hasError = answers.some((answer) => answer.error);
    const hasTokens = answers.some((answer) => answer.tokens_in);
    const mark = (answer) => sign(answer.error ? "f" : answer.credit === 1 ? "1" : answer.credit === 0 ? "0" : "p");
    const scores = (answer) => {
      const own = answer.choices || choices;
      return choices.map((_, place) => {
        const score = answer.scores?.[place];
        return score === undefined ? "–" : element("span", {class: own[place] === answer.answer ? "chosen" : "", title: own[place]}, score.toFixed(2).replace("-", "−"));
      });
    };
    return table([["Arm", ""], ["Seed", "number"], ["", "sign"], ["Answer", ""], ...(choices ? choices.map((choice) => [choice.length > 24 ? `${choice.slice(0, 23)}…` : choice, `number ${choice === question.gold ? "goldcolumn" : ""}`]) : []),
      ...(hasText ? [["Written", ""]] : []), ...(hasRoute ? [["Routed to", ""]] : []), ...(hasTokens ? [["Tokens read (Sharer)", "number"]] : []), ...(hasError ? [["Error", ""]] : [])],
    answers.map((answer) => [titleOf(cell, answer.arm), answer.seed ?? "–", mark(answer), answer.answer || "–", ...(choices ? scores(answer) : []),
      ...(hasText ? [element("span", {class: "written"}, answer.output_text ?? "–")] : []), ...(hasRoute ? [answer.routed_to ?? "–"] : []),
      ...(hasTokens ? [`${answer.tokens_in ?? 0} (${answer.sharer_tokens_in ?? 0})`] : []), ...(hasError ? [answer.error ?? ""] : [])]), "Answers of each arm");
  };
})();
