"use strict";
// Parts that several pages have: badges, tables, intervals, windowed lists.

(() => {
  const {element} = c2c;

  c2c.badge = (verdict) => element("span", {class: `badge ${verdict.replaceAll(" ", "-")}`}, verdict);

  /** A link, or the text alone where there is no address. */
  c2c.link = (address, ...children) => (address ? element("a", {href: address}, ...children) : element("span", {}, ...children));

  /** A table that scrolls sideways in itself: columns as [title, class], rows as lists of nodes or texts. */
  c2c.table = (columns, rows, label) => element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label},
    element("table", {},
      element("thead", {}, element("tr", {}, columns.map(([title, kind = ""]) => element("th", {scope: "col", class: kind}, title)))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, number) => (
        element(number ? "td" : "th", {class: columns[number][1] || "", scope: number ? undefined : "row"}, cell))))))));

  /** Pairs of a term and what it is. */
  c2c.facts = (pairs) => element("dl", {class: "facts"}, pairs.filter(([, text]) => text !== "" && text !== undefined && text !== null)
    .map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));

  /** Where a bar of an axis lies, for values of all rows; 0 (or another origin) is always on it. */
  c2c.axis = (rows, origin = 0) => {
    const numbers = rows.flatMap((row) => [row.low, row.high, row.value]).filter((number) => typeof number === "number");
    const low = Math.min(origin, ...numbers), high = Math.max(origin, ...numbers);
    const margin = (high - low || 1) * 0.04;
    return {low: low - margin, high: high + margin, origin};
  };

  /** A value with its interval as a picture; the number stands next to it as text. */
  c2c.interval = (row, axis, kind = "") => {
    const x = (number) => (200 * (number - axis.low)) / (axis.high - axis.low);
    if (typeof row.value !== "number") return "";
    const low = row.low ?? row.value, high = row.high ?? row.value;
    const side = low > axis.origin ? "above" : high < axis.origin ? "below" : "covers";
    return element("svg:svg", {class: `interval ${kind || side}`, viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true"},
      element("svg:line", {class: "origin", x1: x(axis.origin), x2: x(axis.origin), y1: 0, y2: 16}),
      element("svg:line", {class: "range", x1: x(low), x2: x(high), y1: 8, y2: 8}),
      element("svg:line", {class: "point", x1: x(row.value), x2: x(row.value), y1: 3, y2: 13}));
  };

  c2c.breadcrumb = (...links) => element("nav", {class: "crumbs", "aria-label": "Path"}, links.map(([text, address], number) => [
    number ? element("span", {"aria-hidden": "true"}, "›") : "", c2c.link(address, text)]));

  /** A labelled choice. */
  c2c.choice = (label, options, value, act) => element("label", {class: "field"}, element("span", {}, label),
    element("select", {onchange: (event) => act(event.target.value)}, options.map(([name, title]) => (
      element("option", {value: name, selected: name === value}, title)))));

  /** A labelled line of text; acts a moment after the last key. */
  c2c.search = (label, value, act) => {
    let timer = 0;
    return element("label", {class: "field grow"}, element("span", {}, label), element("input", {
      type: "search", value, "data-search": true, autocomplete: "off", spellcheck: "false",
      oninput: (event) => { clearTimeout(timer); timer = setTimeout(() => act(event.target.value), 80); },
    }));
  };

  /** A list that holds only the rows in view, however many there are. */
  c2c.WindowedList = class {
    constructor({label, height, draw, empty}) {
      Object.assign(this, {height, draw, empty, rows: [], first: -1, last: -1, current: 0});
      this.space = element("div", {class: "space", role: "presentation"});
      this.node = element("div", {class: "window", tabindex: "0", role: "list", "aria-label": label}, this.space);
      this.node.addEventListener("scroll", () => this.show(), {passive: true});
      this.node.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.show(true)).observe(this.node);
    }

    /** Show other rows, from the first one. */
    set(rows) {
      this.rows = rows;
      this.current = 0;
      this.node.scrollTop = 0;
      this.space.style.height = `${Math.max(rows.length, 1) * this.height}px`;
      this.show(true);
    }

    show(isNew = false) {
      const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - 8);
      const last = Math.min(this.rows.length, first + Math.ceil((this.node.clientHeight || 600) / this.height) + 16);
      if (!isNew && first === this.first && last === this.last) return;
      [this.first, this.last] = [first, last];
      const nodes = this.rows.length ? [] : [element("p", {class: "quiet empty"}, this.empty)];
      for (let number = first; number < last; number += 1) {
        const node = this.draw(this.rows[number], number);
        node.classList.add("row");
        node.setAttribute("role", "listitem");
        node.setAttribute("aria-setsize", this.rows.length);
        node.setAttribute("aria-posinset", number + 1);
        node.classList.toggle("current", number === this.current);
        node.style.transform = `translateY(${number * this.height}px)`;
        nodes.push(node);
      }
      this.space.replaceChildren(...nodes);
    }

    /** Arrows, page and end keys move the current row; Enter opens it. */
    key(event) {
      const page = Math.max(1, Math.floor(this.node.clientHeight / this.height) - 1);
      const steps = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity};
      if (event.target !== this.node) return;
      if (event.key === "Enter") this.space.querySelector(".current a")?.click();
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.current = Math.min(Math.max(this.current + steps[event.key], 0), Math.max(this.rows.length - 1, 0));
      const top = this.current * this.height;
      if (top < this.node.scrollTop) this.node.scrollTop = top;
      const bottom = top + this.height - this.node.clientHeight;
      if (bottom > this.node.scrollTop) this.node.scrollTop = bottom;
      this.show(true);
    }
  };
})();
