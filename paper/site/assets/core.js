"use strict";
// Data, addresses and elements. Browsers load no JSON from the file system, so each file of data is a script that hands its
// content to c2cProvide.

const c2c = {};

(() => {
  const contents = new Map();
  const requests = new Map();

  globalThis.c2cProvide = (name, content) => contents.set(name, content);

  /** The content of a file of data, loaded once. */
  c2c.load = (name) => {
    if (!requests.has(name)) {
      requests.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => resolve(contents.get(name));
        script.onerror = () => {
          requests.delete(name);
          reject(new Error(`data/${name}.js cannot be loaded. Write the site again: make site`));
        };
        document.head.append(script);
      }));
    }
    return requests.get(name);
  };

  /** An element with attributes, listeners (onclick, …) and children; texts become text, never markup. */
  c2c.element = (tag, attributes = {}, ...children) => {
    const node = tag.startsWith("svg:")
      ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "value") node.value = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    c2c.fill(node, ...children);
    return node;
  };

  /** Give an element other children: nodes, texts, and lists of them; what is empty is left out. */
  c2c.fill = (node, ...children) => node.replaceChildren(...children.flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== ""));

  /** The address of a page: its parts, and its parameters where they have a value. */
  c2c.address = (parts, parameters = {}) => {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters)) if (value !== "" && value !== undefined && value !== null) query.set(name, value);
    const text = query.toString();
    return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
  };

  /** Parts and parameters of the current address. */
  c2c.place = () => {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const parts = path.split("/").filter(Boolean).map((part) => {
      try { return decodeURIComponent(part); } catch { return part; }
    });
    return {parts, parameters: Object.fromEntries(new URLSearchParams(query))};
  };

  /** Change the address without a new page in the history and without drawing the page again. */
  c2c.rewrite = (address) => history.replaceState(null, "", address);

  c2c.scale = (index, name) => {
    const scale = index.scales.find((entry) => entry.scale === name);
    if (!scale) throw new Error(`There is no scale ${name} on this site.`);
    return scale;
  };

  c2c.cellOf = (scale, pair, benchmark) => {
    const cell = scale.cells.find((entry) => entry.pair === pair && entry.benchmark === benchmark);
    if (!cell) throw new Error(`Scale ${scale.scale} has no cell ${pair}, ${benchmark}.`);
    return cell;
  };

  /** A number of things in words: 1 question, 2,000 questions. */
  c2c.count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
})();
