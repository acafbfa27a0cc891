"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const PALETTE = ["#1f77c9", "#e08a00", "#0f9d76", "#c65b9e", "#8a63d2", "#d5502f", "#3aa6c9", "#8b8b33", "#7f7f7f"];
  const BOX = { left: 70, right: 22, top: 20, bottom: 52, width: 1000, height: 460 };
  const columns = new Map(data.columns.map((column) => [column.key, column]));
  const unique = (values) => [...new Set(values)];
  const targets = unique(data.rows.map((row) => row.target)).sort();
  const recipes = unique(data.rows.map((row) => row.recipe));
  const SHAPES = ["M-1,0A1,1 0 1 1 1,0A1,1 0 1 1 -1,0Z", "M-.87-.87H.87V.87H-.87Z", "M0-1.2L1.1.8H-1.1Z", "M0-1.2L1.2 0L0 1.2L-1.2 0Z", "M0 1.2L1.1-.8H-1.1Z"];
  const shape = (recipe) => SHAPES[recipes.indexOf(recipe) % SHAPES.length];
  const color = (target) => PALETTE[targets.indexOf(target) % PALETTE.length];
  const axes = data.columns.filter((column) => column.axis);
  const state = { recipe: "", hidden: new Set(), sort: null, x: "", y: "", log: { x: false, y: false } };
  data.rows.forEach((row, index) => { row.index = index; });

  function node(tag, attributes = {}, ...children) {
    const svg = ["svg", "g", "circle", "line", "path", "text"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function format(value, column) {
    if (value === undefined) return "";
    const text = value.toFixed(column.digits);
    return column.key.endsWith("_delta") && value >= 0 ? `+${text}` : text;
  }
  const withUnit = (value, column) => `${format(value, column)} ${column.unit}`.trim();
  const visible = () => data.rows.filter((row) =>
    (!state.recipe || row.recipe === state.recipe) && !state.hidden.has(row.target));

  /* scales */

  function niceStep(span, count) {
    const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
  }

  function linearScale(values, from, to) {
    let low = Math.min(...values), high = Math.max(...values);
    const span = high - low || Math.abs(high) || 1;
    low = low >= 0 && low < 0.55 * high ? 0 : low - 0.08 * span;
    high += 0.08 * span;
    const step = niceStep(high - low, 6), ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step) ticks.push(+tick.toPrecision(12));
    return { at: (value) => from + (to - from) * (value - low) / (high - low), ticks };
  }

  function logScale(values, from, to) {
    const low = Math.log10(Math.min(...values)) - 0.06, high = Math.log10(Math.max(...values)) + 0.06, ticks = [];
    const factors = high - low > 2.5 ? [1] : high - low > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const factor of factors) {
        const tick = factor * 10 ** power;
        if (Math.log10(tick) >= low && Math.log10(tick) <= high) ticks.push(+tick.toPrecision(6));
      }
    }
    return { at: (value) => from + (to - from) * (Math.log10(value) - low) / (high - low), ticks };
  }

  const scale = (axis, values, from, to) =>
    (state.log[axis] && Math.min(...values) > 0 ? logScale : linearScale)(values, from, to);

  /* the plot */

  function frontOf(rows) {
    const sorted = [...rows].sort((a, b) => a.values[state.x] - b.values[state.x] || a.values[state.y] - b.values[state.y]);
    let best = Infinity;
    return sorted.filter((row) => row.values[state.y] < best && (best = row.values[state.y], true));
  }

  function drawPlot() {
    const plot = byId("plot"), x = columns.get(state.x), y = columns.get(state.y);
    plot.replaceChildren();
    if (!x || !y) return;
    const rows = visible(), shown = rows.filter((row) => state.x in row.values && state.y in row.values);
    const missing = rows.length - shown.length;
    byId("caption").textContent = (shown.length ? "Lower left is better. Dashed: the Pareto front" +
      (recipes.length > 1 && !state.recipe ? " of each recipe" : "") + ". Red ring: over its budget." +
      (shown.some((row) => row.overrides) ? " Star: with further settings." : "") : "No variant has both values.") +
      (missing ? ` ${missing} of ${rows.length} variants lack one of the two values and are not shown.` : "");
    if (!shown.length) return;
    const right = BOX.width - BOX.right, bottom = BOX.height - BOX.bottom;
    const across = scale("x", shown.map((row) => row.values[state.x]), BOX.left, right);
    const up = scale("y", shown.map((row) => row.values[state.y]), bottom, BOX.top);
    drawAxes(plot, across, up, x, y, right, bottom);
    const fronts = unique(shown.map((row) => row.recipe)).map((recipe) => frontOf(shown.filter((row) => row.recipe === recipe)));
    for (const front of fronts) drawFront(plot, front, across, up, right);
    const best = new Set(fronts.flat());
    const points = shown.map((row) => ({ row, x: across.at(row.values[state.x]), y: up.at(row.values[state.y]), best: best.has(row) }));
    points.sort((a, b) => a.best - b.best);
    for (const point of points) plot.append(dot(point));
    placeLabels(plot, points, right, bottom);
  }

  function drawAxes(plot, across, up, x, y, right, bottom) {
    for (const tick of across.ticks) {
      plot.append(node("line", { class: "grid", x1: across.at(tick), x2: across.at(tick), y1: BOX.top, y2: bottom }),
        node("text", { x: across.at(tick), y: bottom + 19, "text-anchor": "middle" }, String(tick)));
    }
    for (const tick of up.ticks) {
      plot.append(node("line", { class: "grid", x1: BOX.left, x2: right, y1: up.at(tick), y2: up.at(tick) }),
        node("text", { x: BOX.left - 9, y: up.at(tick) + 4.5, "text-anchor": "end" }, String(tick)));
    }
    const title = (column) => column.name + (column.unit ? ` (${column.unit})` : "");
    plot.append(node("text", { class: "title", x: (BOX.left + right) / 2, y: BOX.height - 8, "text-anchor": "middle" }, title(x)),
      node("text", { class: "title", "text-anchor": "middle", transform: `translate(17 ${(BOX.top + bottom) / 2}) rotate(-90)` }, title(y)));
  }

  function drawFront(plot, front, across, up, right) {
    if (!front.length) return;
    const at = (row) => [across.at(row.values[state.x]), up.at(row.values[state.y])];
    let path = `M${at(front[0])[0]},${BOX.top}V${at(front[0])[1]}`;
    for (const row of front.slice(1)) path += `H${at(row)[0]}V${at(row)[1]}`;
    plot.append(node("path", { class: "front", d: `${path}H${right}` }));
  }

  function dot({ row, x, y, best }) {
    const show = (event) => { light(row, true); tip(row, event); }, hide = () => { light(row, false); byId("tip").hidden = true; };
    return node("g", {
      class: best ? "dot" : "dot dominated", id: `dot-${row.index}`, tabindex: 0, role: "button",
      "aria-label": `${row.level}, ${row.target}, ${withUnit(row.values[state.x], columns.get(state.x))}, ${withUnit(row.values[state.y], columns.get(state.y))}`,
      onmouseenter: show, onmousemove: show, onmouseleave: hide, onfocus: show, onblur: hide,
      onclick: () => open(row, true), onkeydown: (event) => { if (event.key === "Enter") open(row, true); },
    },
    row.verdict === "over_budget" ? node("circle", { class: "over", cx: x, cy: y, r: 10.5 }) : null,
    node("path", { class: "body", d: shape(row.recipe), transform: `translate(${x} ${y}) scale(${best ? 7 : 5.5})`, fill: color(row.target) }));
  }

  function placeLabels(plot, points, right, bottom) {
    const radius = (row) => row.verdict === "over_budget" ? 11 : 7;
    const taken = points.map(({ row, x, y }) => [x - radius(row), y - radius(row), x + radius(row), y + radius(row)]);
    const free = (box) => box[0] > BOX.left && box[2] < right + 18 && box[1] > BOX.top - 14 && box[3] < bottom &&
      !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
    for (const { row, x, y } of [...points].reverse()) {
      const text = row.level + (row.overrides ? " *" : ""), width = 7.8 * text.length, height = 15, gap = radius(row) + 4;
      const boxes = [[gap, -7.5], [-gap - width, -7.5], [-width / 2, -gap - 15], [-width / 2, gap], [9, -22], [9, 7], [-9 - width, -22], [-9 - width, 7]]
        .map(([dx, dy]) => [x + dx, y + dy, x + dx + width, y + dy + height]);
      const box = boxes.find(free);
      if (!box) continue;
      taken.push(box);
      plot.append(node("text", { class: "point", x: box[0], y: box[1] + 11.5 }, text));
    }
  }

  function tip(row, event) {
    const box = byId("tip"), at = event.type === "focus" ? byId(`dot-${row.index}`).getBoundingClientRect() : { right: event.clientX, top: event.clientY };
    const lines = data.columns.filter((column) => column.key in row.values).map((column) =>
      node("tr", {}, node("td", {}, column.name), node("td", {}, withUnit(row.values[column.key], column))));
    box.replaceChildren(node("b", {}, `${row.level} · ${row.target}`), node("span", {}, [row.recipe, row.overrides].filter(Boolean).join(" · ")),
      node("table", {}, ...lines), node("div", { class: row.verdict }, verdict(row)), node("div", {}, `verified: ${row.verified}`));
    box.hidden = false;
    const left = Math.min(at.right + 16, document.documentElement.clientWidth - box.offsetWidth - 8);
    const top = Math.min(at.top + 12, window.innerHeight - box.offsetHeight - 8);
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${Math.max(8, top) + window.scrollY}px`;
  }

  function verdict(row) {
    const words = row.verdict.replace("_", " ");
    const over = row.limits.filter((limit) => limit.verdict === "over_budget").map((limit) => `${limit.metric} ${+limit.value.toFixed(3)} > ${limit.limit}`);
    return over.length ? `${words}: ${over.join(", ")}` : words;
  }

  function light(row, on) {
    for (const id of [`dot-${row.index}`, `row-${row.index}`]) byId(id)?.classList.toggle("lit", on);
  }

  /* the table */

  const names = ["recipe", "target", "level", "overrides"].filter((name) =>
    name === "level" || (name === "overrides" ? data.rows.some((row) => row.overrides) : unique(data.rows.map((row) => row[name])).length > 1 || name === "target"));
  const sortValue = (row, key) => key === "level" ? row.rank : columns.has(key) ? row.values[key] : row[key];

  function sorted(rows) {
    if (!state.sort) return rows;
    const { key, sign } = state.sort;
    const missing = (value) => value === undefined || value === "";
    return [...rows].sort((a, b) => {
      const [one, other] = [sortValue(a, key), sortValue(b, key)];
      if (missing(one) || missing(other)) return missing(one) - missing(other);
      return sign * (one < other ? -1 : one > other ? 1 : 0);
    });
  }

  function drawHead() {
    const cell = (key, title, unit, number) => {
      const active = state.sort?.key === key;
      const click = () => { state.sort = { key, sign: active ? -state.sort.sign : 1 }; drawHead(); drawBody(); };
      const mark = active ? (state.sort.sign > 0 ? " ↑" : " ↓") : "";
      return node("th", { class: number ? "number" : null, "aria-sort": active ? (state.sort.sign > 0 ? "ascending" : "descending") : null, scope: "col" },
        node("button", { type: "button", onclick: click }, title + mark, node("small", {}, unit || "\u00a0")));
    };
    byId("table").tHead.replaceChildren(node("tr", {}, ...names.map((name) => cell(name, name === "overrides" ? "set" : name, "")),
      ...data.columns.map((column) => cell(column.key, column.title, column.unit, true)), cell("verdict", "budget", ""), cell("verified", "verified", "")));
  }

  function drawBody() {
    const largest = Math.max(...data.rows.map((row) => row.values.size_mb ?? 0));
    byId("table").tBodies[0].replaceChildren(...sorted(visible()).map((row) => {
      const toggle = () => open(row, false);
      const cells = names.map((name) => name === "target"
        ? node("td", {}, node("i", { class: "swatch", style: `background:${color(row.target)}` }), row.target)
        : node("td", {}, name === "overrides" ? node("span", { class: "set" }, row.overrides) : row[name]));
      const numbers = data.columns.map((column) => node("td", {
        class: column.key === "size_mb" ? "number bar" : "number",
        style: column.key === "size_mb" ? `--part:${(100 * (row.values.size_mb ?? 0) / largest).toFixed(1)}%` : null,
      }, format(row.values[column.key], column)));
      return node("tr", {
        class: "row", id: `row-${row.index}`, tabindex: 0, onclick: toggle, onkeydown: (event) => { if (event.key === "Enter") toggle(); },
        onmouseenter: () => light(row, true), onmouseleave: () => light(row, false),
      }, ...cells, ...numbers, node("td", { class: row.verdict, title: verdict(row) }, row.verdict.replace("_", " ")), node("td", {}, row.verified));
    }));
  }

  function open(row, scroll) {
    const line = byId(`row-${row.index}`), next = line?.nextElementSibling;
    if (!line) return;
    if (next?.classList.contains("more")) { if (!scroll) next.remove(); } else line.after(details(row, line.cells.length));
    if (scroll) line.scrollIntoView({ behavior: "smooth", block: "center" });
  }

  function details(row, width) {
    const number = (metric) => `${+metric.value.toPrecision(5)} ${metric.unit}`.trim();
    const groups = Object.entries(row.metrics).map(([group, metrics]) => {
      const methods = unique(Object.values(metrics).map((metric) => metric.method));
      return node("div", { class: "group" }, node("h3", {}, group),
        node("table", {}, ...Object.entries(metrics).map(([name, metric]) => node("tr", {}, node("td", {}, name),
          node("td", { class: "number" }, number(metric)), node("td", {}, `n ${metric.n} (${methods.indexOf(metric.method) + 1})`)))),
        node("ol", {}, ...methods.map((method) => node("li", {}, method))));
    });
    const passes = node("div", { class: "group" }, node("h3", {}, "passes"), node("table", {}, ...row.passes.map((pass) =>
      node("tr", {}, node("td", {}, pass.name), node("td", { class: "number" }, `${(pass.bytes / 1e6).toFixed(2)} MB`), node("td", {}, `${pass.pass}, ${pass.seconds.toFixed(1)} s`)))));
    const facts = `${row.recipe} · ${row.target} · ${row.level} ${row.overrides} — ${verdict(row)}. ${row.choice ? `${row.choice}. ` : ""}Build ${row.build}, written ${row.created}. Licence ${row.license}. Measured on ${row.host}.`;
    return node("tr", { class: "more" }, node("td", { colspan: width }, node("div", { class: "inside", style: `width:${byId("table").parentElement.clientWidth - 32}px` }, node("p", { class: "facts" }, facts), node("div", { class: "groups" }, ...groups, passes))));
  }

  /* everything around */

  function fillChoices() {
    for (const axis of ["x", "y"]) {
      byId(axis).replaceChildren(...axes.map((column) => node("option", { value: column.key }, column.name)));
      byId(axis).value = state[axis];
      byId(axis).addEventListener("change", () => { state[axis] = byId(axis).value; drawPlot(); });
      byId(`log-${axis}`).addEventListener("change", (event) => { state.log[axis] = event.target.checked; drawPlot(); });
    }
    byId("recipe-choice").hidden = recipes.length < 2;
    byId("recipe").replaceChildren(node("option", { value: "" }, "all"), ...recipes.map((recipe) => node("option", { value: recipe }, recipe)));
    byId("recipe").addEventListener("change", () => { state.recipe = byId("recipe").value; drawPlot(); drawBody(); });
    byId("legend").replaceChildren(...targets.map((target) => {
      const button = node("button", { type: "button", "aria-pressed": "true" }, node("i", { style: `background:${color(target)}` }), target);
      button.addEventListener("click", () => {
        const hide = !state.hidden.has(target);
        state.hidden[hide ? "add" : "delete"](target);
        button.setAttribute("aria-pressed", String(!hide));
        drawPlot();
        drawBody();
      });
      return button;
    }), ...(recipes.length > 1 ? recipes.map((recipe) => node("span", { class: "key" },
      node("svg", { viewBox: "-1.4 -1.4 2.8 2.8" }, node("path", { d: shape(recipe) })), recipe)) : []));
  }

  function fillTexts() {
    const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    byId("summary").replaceChildren(...[`${count(data.rows.length, "variant")} of ${recipes.join(", ") || "nothing"} on ${targets.join(", ") || "no target"}`,
      data.failures.length ? node("a", { href: "#failures" }, `${data.failures.length} failed`) : ""]);
    document.title = `pocket_opt: ${recipes.join(", ")}`;
    const labels = unique(data.rows.flatMap((row) => row.labels));
    const whose = (label) => unique(data.rows.filter((row) => row.labels.includes(label)).map((row) => row.recipe)).join(", ");
    byId("labels").replaceChildren(...unique(labels.map(whose)).map((names) =>
      node("p", { class: "note" }, `${names}: ${labels.filter((label) => whose(label) === names).join("; ")}`)));
    byId("hosts").textContent = `Measured on ${unique(data.rows.map((row) => row.host)).join("; ")}.`;
    byId("failures").hidden = !data.failures.length;
    byId("failures").open = data.failures.length <= 3;
    byId("failure-count").textContent = `${data.failures.length} failed`;
    byId("failure-list").replaceChildren(...data.failures.map((failure) => node("div", { class: "failure" },
      node("b", {}, [failure.recipe, failure.target, failure.level, ...failure.overrides].join(" · ")), node("pre", {}, failure.reason))));
  }

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = dark ? "light" : "dark";
  });
  const has = (key) => columns.has(key);
  state.x = has("size_mb") ? "size_mb" : axes[0]?.key;
  state.y = ["wer", "total_ms", "rtf"].find(has) ?? axes[1]?.key ?? state.x;
  fillTexts();
  fillChoices();
  drawHead();
  drawBody();
  drawPlot();
})();
