// Draws the plots when they come near the screen, and answers the page's few controls.
const views = [];
const chosen = { axis: "tokens", chosen_run: null };  // parameters of the plots

function tell(view) {
  Object.entries(chosen).forEach(([name, value]) => view.signal(name, value));
  view.run();
}

function draw(place) {
  if ("drawn" in place.dataset) return;
  place.dataset.drawn = "";
  const spec = JSON.parse(place.nextElementSibling.textContent);
  const actions = { export: true, source: false, compiled: false, editor: false };
  vegaEmbed(place, { ...spec, autosize: { type: "fit-x", contains: "padding" } },
    { config: THEME, renderer: "svg", actions, ast: false }).then(({ view }) => {
      if (spec.params?.some((param) => param.name === "axis")) {
        views.push(view);
        tell(view);
      }
    });
}

// What is seen comes first, what a little scrolling would show a moment later.
const undrawn = () => document.querySelectorAll(".plot:not([data-drawn])");
function drawWithin(rootMargin) {
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        watcher.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin });
  undrawn().forEach((place) => watcher.observe(place));
}
drawWithin("0px");
addEventListener("load", () => setTimeout(() => drawWithin("600px"), 500));
addEventListener("beforeprint", () => undrawn().forEach(draw));

document.querySelectorAll("input[name=axis]").forEach((choice) => choice.addEventListener("change", () => {
  chosen.axis = choice.value;
  views.forEach(tell);
}));

const runs = document.querySelectorAll(".legend button");
runs.forEach((button) => button.addEventListener("click", () => {
  chosen.chosen_run = chosen.chosen_run === button.dataset.run ? null : button.dataset.run;
  runs.forEach((one) => one.setAttribute("aria-pressed", one.dataset.run === chosen.chosen_run));
  views.forEach(tell);
}));

document.querySelector("button.theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = getComputedStyle(root).getPropertyValue("--surface").trim() !== "#ffffff";
  root.dataset.theme = dark ? "light" : "dark";
});

document.querySelectorAll("table.sortable th").forEach((head, column) => {
  head.querySelector("button")?.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // what has no value stands last
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return ascending ? order : -order;
    };
    [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach((row) => body.append(row));
  });
});
