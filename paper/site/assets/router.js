"use strict";
// Which page an address shows, the navigation, and keys.

(() => {
  const {element} = c2c;
  const main = document.getElementById("main");
  const NAVIGATION = [["Claims", []], ["Cells", ["cells"]], ["Test bed", ["testbed"]], ["Paper", ["paper"]], ["Tables", ["tables"]]];
  const SECTIONS = {claim: "", claims: ""};
  let turn = 0;

  const navigate = (section) => c2c.fill(document.getElementById("nav"), NAVIGATION.map(([title, path]) => element("a", {
    href: c2c.address(path), "aria-current": (path[0] || "") === section ? "page" : undefined,
  }, title)));

  const show = async () => {
    const {parts: [page = "claims", ...parts], parameters} = c2c.place();
    const number = turn += 1;
    main.setAttribute("aria-busy", "true");
    try {
      if (!Object.hasOwn(c2c.pages, page)) throw new Error(`There is no page ${page} on this site.`);
      // A page is drawn apart, so that a slower one does not replace a later one.
      const content = element("div");
      const title = await c2c.pages[page](content, parts, parameters);
      if (number !== turn) return;
      main.replaceChildren(...content.childNodes);
      navigate(content.dataset.section ?? SECTIONS[page] ?? page);
      document.title = `${title} – results of cache-to-cache`;
    } catch (error) {
      if (number !== turn) return;
      navigate("none");
      main.replaceChildren(element("h1", {}, "This page cannot be shown"), element("p", {}, error.message), element("p", {}, element("a", {href: "#/"}, "All claims")));
    }
    main.removeAttribute("aria-busy");
    scrollTo(0, 0);
    main.focus({preventScroll: true});
  };

  addEventListener("hashchange", show);
  document.getElementById("skip").addEventListener("click", () => main.focus());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") {
      const field = main.querySelector("[data-search]");
      if (field) { event.preventDefault(); field.focus(); }
    }
    if (!event.target.closest(".window")) main.querySelector(`[data-key="${event.key}"]`)?.click();
  });
  document.getElementById("footer").append("Made by ", element("code", {}, "make site"), " from per-question records. These pages load nothing from a network.");
  show();
})();
