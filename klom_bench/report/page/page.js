"use strict";
(() => {
  const AT_ONCE = 500;

  // All numbers and texts of all rows, unpacked when they are wanted

  let unpacked;
  const numbers = () => unpacked ??= (async () => {
    const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  })();

  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const button = (text, act, attributes = {}) => {
    const element = make("button", text, { type: "button", ...attributes });
    element.addEventListener("click", act);
    return element;
  };
  const chooser = (label, options, act) => {
    const select = make("select");
    for (const [value, text] of options) select.append(make("option", text, { value }));
    select.addEventListener("change", () => act(select.value));
    const around = make("label", label);
    around.append(select);
    return [around, select];
  };

  // Files and the clipboard

  const save = (name, text, type) => {
    const link = make("a", "", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const NUMBER = /^[+-]?\d[\d.,]*( ±\d[\d.]*)?( %)?$/;
  const harmless = (text) => (/^[=+\-@\t]/.test(text) && !NUMBER.test(text) ? "'" + text : text); // no formula of a spreadsheet
  const field = (value) => {
    if (typeof value === "number") return String(value);
    const text = harmless(String(value ?? ""));
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  const csv = (rows) => rows.map((row) => row.map(field).join(",")).join("\n") + "\n";
  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  const json = (data) => JSON.stringify(data.rows.map((row, i) => ({
    ...Object.fromEntries(data.columns.map((name, j) => [name, row[j]])),
    details: Object.fromEntries(data.labels.map((name, j) => [name, data.details[i][j]])),
  })), null, 1);

  // Rows one by one

  const open = async (place, title) => {
    const id = "row-" + place;
    let details = document.getElementById(id);
    if (!details) {
      const data = await numbers();
      if (!data.details[place]) return;
      details = make("details", undefined, { id });
      const summary = make("summary");
      summary.append(make("b", title));
      const list = make("dl", undefined, { class: "facts" });
      data.details[place].forEach((text, j) => {
        if (text) list.append(make("dt", data.labels[j]), make("dd", text, { class: "said" }));
      });
      details.append(summary, list);
      document.getElementById("one-by-one").append(details);
    }
    details.open = true;
    details.scrollIntoView({ block: "start" });
    details.querySelector("summary").focus({ preventScroll: true });
  };

  // Tables

  const known = new Intl.Collator("en", { numeric: true });
  const keyOf = (text) => {
    const number = Number.parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => {
    const words = typeof a === "string", others = typeof b === "string";
    if (words && others) return known.compare(a, b);
    return words || others ? words - others : a - b; // what has no number comes last
  };

  const table = (element) => {
    const heads = [...element.tHead.rows[0].cells];
    const every = [...element.tBodies].flatMap((body) => [...body.rows]);
    const textOf = (row, i) => row.cells[i].textContent.trim();
    const rows = every.map((row, place) => ({
      row,
      place,
      get texts() { return (this.read ??= heads.map((_, i) => textOf(row, i))); }, // when they are wanted
    }));
    const first = element.tBodies[0];
    const rest = element.tBodies[1] ?? element.appendChild(make("tbody"));
    const isNumeric = (i) => {
      const texts = rows.map(({ texts }) => texts[i]).filter((text) => text && text !== "n/a");
      return 2 * texts.filter((text) => /^[-+]?[\d.]/.test(text)).length > texts.length;
    };
    const chosen = new Map();
    let words = [], sorted = null, shown = rows, all = false;

    const link = ({ row }) => {
      const place = row.dataset.i;
      if (place === undefined || row.cells[0].firstElementChild) return;
      const [name, where] = [textOf(row, 0), textOf(row, 1)];
      const anchor = make("a", name, { href: "#row-" + place });
      anchor.addEventListener("click", (event) => {
        event.preventDefault();
        open(place, `${name} on ${where}`);
      });
      row.cells[0].replaceChildren(anchor);
    };
    const told = (visible) => {
      if ("links" in element.dataset) visible.forEach(link);
      state.textContent = visible.size === rows.length ? `${rows.length} rows` :
        `${visible.size} of ${rows.length} rows` + (shown.length > visible.size ? `, ${shown.length} match` : "");
      more.hidden = shown.length <= visible.size;
    };
    const show = () => {
      shown = rows.filter(({ texts }) =>
        words.every((word) => texts.some((text) => text.toLowerCase().includes(word))) &&
        [...chosen].every(([i, value]) => !value || texts[i] === value));
      if (sorted) {
        const { i, down } = sorted, numeric = isNumeric(i);
        const keyed = shown.map((entry) => [numeric ? keyOf(entry.texts[i]) : entry.texts[i], entry]);
        keyed.sort(([a, x], [b, y]) => {
          const none = (a === "") - (b === "");
          const sides = numeric ? (typeof a === "string") - (typeof b === "string") : 0;
          return none || sides || (down ? order(b, a) : order(a, b)) || x.place - y.place;
        });
        shown = keyed.map(([, entry]) => entry);
      }
      const visible = new Set(all ? shown : shown.slice(0, AT_ONCE));
      first.replaceChildren(...[...visible].map(({ row }) => row));
      rest.replaceChildren(...rows.filter((entry) => !visible.has(entry)).map(({ row }) => row));
      rest.className = "other";
      told(visible);
    };

    heads.forEach((head, i) => {
      const sort = button(undefined, () => {
        const down = sorted?.i === i ? !sorted.down : false;
        sorted = { i, down };
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        show();
      });
      sort.append(...head.childNodes);
      head.append(sort);
    });

    const controls = make("div", undefined, { class: "controls" });
    const find = make("input", undefined, { type: "search", size: 18 });
    find.addEventListener("input", () => {
      words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      show();
    });
    const label = make("label", "find");
    label.append(find);
    controls.append(label);
    heads.forEach((head, i) => {
      if (!("choose" in head.dataset)) return;
      const values = [...new Set(every.map((row) => textOf(row, i)))].filter(Boolean).sort(known.compare);
      if (values.length < 2) return;
      const options = [["", "all"], ...values.map((value) => [value, value])];
      controls.append(chooser(head.textContent, options, (value) => { chosen.set(i, value); show(); })[0]);
    });
    if (element.id === "rows") {
      const kinds = [["did", "what it did"], ["klom", "KLOM"], ["", "all"]];
      element.dataset.show = "did";
      controls.append(chooser("columns", kinds, (value) => { element.dataset.show = value; })[0]);
    }
    const cellsOf = ({ row, texts }) => texts.filter((_, i) => getComputedStyle(row.cells[i]).display !== "none");
    const named = () => heads.filter((head) => getComputedStyle(head).display !== "none").map((head) => head.textContent.trim());
    const copy = button("copy", async () => {
      const lines = [named(), ...[...first.rows].map((row) => cellsOf(rows[every.indexOf(row)]))];
      await copied(lines.map((line) => line.map((text) => harmless(text.replaceAll(/\s+/g, " "))).join("\t")).join("\n"));
      copy.textContent = "copied";
      setTimeout(() => { copy.textContent = "copy"; }, 1500);
    }, { title: "what is shown, for a spreadsheet" });
    controls.append(copy);
    if (element.id === "rows") {
      controls.append(
        button("CSV", async () => {
          const data = await numbers();
          save("klom.csv", csv([data.columns, ...data.rows]), "text/csv");
        }),
        button("JSON", async () => save("klom.json", json(await numbers()), "application/json")));
    } else {
      controls.append(button("CSV", () => save(element.id + ".csv",
        csv([heads.map((head) => head.textContent), ...shown.map(({ texts }) => texts)]), "text/csv")));
    }
    const state = make("span", "", { class: "shown", role: "status" });
    const more = button("show all", () => { all = true; show(); });
    controls.append(state, more);
    element.parentElement.before(controls);
    told(new Set(rows.slice(0, first.rows.length))); // they lie there already
  };

  // Figures: one at a time

  const figures = (section) => {
    const every = [...section.querySelectorAll("figure[data-choice]")]
      .map((figure) => ({ figure, choice: JSON.parse(figure.dataset.choice) }));
    if (every.length < 2) return;
    const names = [...new Set(every.flatMap(({ choice }) => Object.keys(choice)))];
    const selects = new Map();
    const show = (changed) => {
      const fits = ({ choice }) => names.filter((name) => choice[name] === selects.get(name).value).length +
        names.length * (changed !== undefined && choice[changed] === selects.get(changed).value);
      const best = every.reduce((a, b) => (fits(b) > fits(a) ? b : a));
      for (const { figure } of every) figure.classList.toggle("other", figure !== best.figure);
      for (const name of names) if (best.choice[name] !== undefined) selects.get(name).value = best.choice[name];
    };
    const controls = make("div", undefined, { class: "controls" });
    for (const name of names) {
      const values = [...new Set(every.map(({ choice }) => choice[name]))].filter((value) => value !== undefined);
      const [label, select] = chooser(name, values.map((value) => [value, value]), () => show(name));
      selects.set(name, select);
      if (values.length > 1) controls.append(label);
    }
    section.querySelector("h2").after(controls);
    show();
  };

  // Light and dark

  const root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = button("", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    theme.textContent = dark() ? "light" : "dark";
  }, { class: "theme" });
  theme.textContent = dark() ? "light" : "dark";
  document.querySelector("nav").append(theme);

  document.querySelectorAll("table[data-table]").forEach(table);
  document.querySelectorAll("[data-figures]").forEach(figures);
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  const asked = /^#row-(\d+)$/.exec(location.hash);
  if (asked) open(asked[1], "row " + asked[1]);
})();
