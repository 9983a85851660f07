"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const COLOURS = 7;
  const PANEL = 250;       // Least width of a histogram.
  const PANEL_HEIGHT = 180;
  const hidden = new Set();
  const drawn = new Set();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = (run) => ({
    color: colour(`--c${run % COLOURS}`),
    dash: DASHES[Math.floor(run / COLOURS) % DASHES.length],
  });
  // Plotly reads a little markup in its texts.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shortened = (text, most) => text.length <= most ? text
    : `${text.slice(0, most / 2)}…${text.slice(1 - most / 2)}`;

  function base() {
    return {
      paper_bgcolor: colour("--page"), plot_bgcolor: colour("--page"),
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--text") },
      margin: { l: 64, r: 16, t: 28, b: 48 },
      hovermode: "closest", showlegend: false, dragmode: "zoom",
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"),
                    font: { color: colour("--text"), size: 13 }, align: "left", namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--text") },
    };
  }
  const axis = (extra) => ({
    gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
    tickcolor: colour("--line"), automargin: true, ...extra,
  });

  function traces(curves, what) {
    const several = new Set(curves.filter((c) => c.phase === "test").map((c) => c.net)).size > 1;
    return curves.map((curve) => {
      const test = curve.phase === "test";
      const net = test && several ? ` #${curve.net}` : "";
      const rate = what === "learning rate";
      return {
        type: "scatter", mode: test ? "lines+markers" : "lines",
        x: curve.x, y: curve.y, connectgaps: false,
        visible: !hidden.has(curve.run),
        meta: [data.curves.runs[curve.run] + net, rate ? what : `${curve.phase} ${what}`].map(plain),
        line: { ...look(curve.run), width: test || rate ? 2 : 1 },
        marker: { size: 4, color: look(curve.run).color },
        opacity: test || rate ? 1 : 0.6,
        hovertemplate: "<b>%{meta[0]}</b><br>iteration %{x:,}<br>%{meta[1]} %{y:.6~g}<extra></extra>",
      };
    });
  }

  // Where the curves have come to: the first quarter of each would squeeze the rest.
  function focus(curves) {
    const values = curves.filter((curve) => !hidden.has(curve.run)).flatMap((curve) =>
      curve.y.slice(Math.floor(curve.y.length / 4)).filter((value) => value !== null));
    if (values.length < 2) return undefined;
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const margin = 0.06 * (high - low) || 0.01;
    return [low - margin, high + margin];
  }

  // The least and the greatest loss; undefined where one is not above 0.
  function extent(curves) {
    let [low, high] = [Infinity, 0];
    for (const curve of curves) for (const value of curve.y) {
      if (value === null) continue;
      if (value <= 0) return undefined;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return high ? [low, high] : undefined;
  }
  const losses = extent(data.curves.loss);
  const spansDecades = losses !== undefined && losses[1] > 10 * losses[0];
  // Marks at 1, 2 and 5 in every decade; where there are many decades, only at 1.
  const digits = losses !== undefined && losses[1] > 1000 * losses[0] ? [1] : [1, 2, 5];
  const decades = { tickformat: "~g",
    tickvals: [...Array(77).keys()].flatMap((power) => digits.map((digit) => digit * 10 ** (power - 38))) };

  const draw = {
    output() {
      const panel = data.curves.outputs[Number(document.getElementById("output").value)];
      const range = panel.name === "learning rate" ? undefined : focus(panel.curves);
      return [traces(panel.curves, panel.name), {
        ...base(), uirevision: panel.name,
        xaxis: axis({ title: { text: "iteration" }, tickformat: "," }),
        yaxis: axis({ title: { text: plain(panel.name) }, range }),
      }];
    },
    loss() {
      const logarithmic = document.getElementById("logarithmic").checked;
      return [traces(data.curves.loss, "loss"), {
        ...base(), uirevision: logarithmic,
        xaxis: axis({ title: { text: "iteration" }, tickformat: "," }),
        yaxis: axis({ title: { text: logarithmic ? "loss, log scale" : "loss" },
                      type: logarithmic ? "log" : "linear", ...(logarithmic ? decades : {}) }),
      }];
    },
    tpm(chart) {
      const scored = data.scores[chart.dataset.run][chart.dataset.window];
      const layers = scored.layers;
      const columns = Math.max(1, Math.min(4, layers.length, Math.floor(chart.clientWidth / PANEL)));
      const rows = Math.ceil(layers.length / columns);
      const height = rows * PANEL_HEIGHT + 30;
      chart.style.height = `${height}px`;
      const layout = { ...base(), height, bargap: 0.08, annotations: [], shapes: [],
                       margin: { l: 40, r: 12, t: 8, b: 36 } };
      const gap = 0.08, width = (1 - gap * (columns - 1)) / columns;
      const bars = layers.map((layer, place) => {
        const column = place % columns, row = Math.floor(place / columns);
        const left = column * (width + gap), top = 1 - row / rows;
        const end = place === 0 ? "" : String(place + 1);
        const body = [top - 0.75 / rows, top - 0.28 / rows];
        const titled = (text) => ({ title: { text, font: { size: 11 }, standoff: 2 }, tickfont: { size: 11 } });
        layout[`xaxis${end}`] = axis({ domain: [left, left + width], anchor: `y${end}`, range: [0, 1],
          dtick: 0.5, showgrid: false, fixedrange: true, ...titled("TPM") });
        layout[`yaxis${end}`] = axis({ domain: body, anchor: `x${end}`, rangemode: "tozero", nticks: 4,
          tickformat: ",d", fixedrange: true, ...titled("kernels") });
        layout.annotations.push({
          xref: "paper", yref: "paper", x: left, y: body[1], xanchor: "left", yanchor: "bottom",
          showarrow: false, align: "left", font: { size: 12 },
          text: `<b>${plain(shortened(layer.name, 34))}</b><br>` +
            `<span style="color:${colour("--quiet")}">${plain(layer.note)}</span>`,
        });
        layout.shapes.push({ type: "line", xref: `x${end}`, yref: `y${end} domain`,
          x0: scored.random_walk, x1: scored.random_walk, y0: 0, y1: 1,
          line: { color: colour("--c1"), width: 1.5, dash: "dash" } });
        return { type: "bar", x: layer.counts.map((_, bin) => (bin + 0.5) / layer.counts.length),
          y: layer.counts, xaxis: `x${end}`, yaxis: `y${end}`, marker: { color: colour("--c0") },
          customdata: layer.counts.map((_, bin) =>
            `${(bin / layer.counts.length).toFixed(1)} to ${((bin + 1) / layer.counts.length).toFixed(1)}`),
          meta: plain(layer.name),
          hovertemplate: "<b>%{meta}</b><br>TPM %{customdata}: %{y} kernels<extra></extra>" };
      });
      return [bars, layout];
    },
  };

  function render(chart) {
    const [traced, layout] = draw[chart.dataset.chart](chart);
    drawn.add(chart);
    return Plotly.react(chart, traced, layout, {
      responsive: chart.dataset.chart !== "tpm", displaylogo: false,
      // Named one by one, for Plotly has some that send the chart away.
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      displayModeBar: chart.dataset.chart === "tpm" ? false : "hover",
    });
  }
  const charts = [...document.querySelectorAll("[data-chart]")];
  const redraw = (names) => charts
    .filter((chart) => drawn.has(chart) && names.includes(chart.dataset.chart)).forEach(render);

  const boxes = [...document.querySelectorAll("input.run")];
  function toggle() {
    hidden.clear();
    boxes.filter((box) => !box.checked).forEach((box) => hidden.add(Number(box.value)));
    redraw(["output", "loss"]);
  }
  const set = (checked) => () => { boxes.forEach((box) => { box.checked = checked; }); toggle(); };
  boxes.forEach((box) => box.addEventListener("change", toggle));
  document.getElementById("all")?.addEventListener("click", set(true));
  document.getElementById("none")?.addEventListener("click", set(false));
  document.getElementById("output")?.addEventListener("change", () => redraw(["output"]));
  const logarithmic = document.getElementById("logarithmic");
  if (logarithmic) {
    logarithmic.checked = spansDecades;
    logarithmic.addEventListener("change", () => redraw(["loss"]));
  }

  // Charts are drawn when they come near the window, all of them before the page is printed.
  const watcher = new IntersectionObserver((entries) => entries
    .filter((entry) => entry.isIntersecting)
    .forEach((entry) => { watcher.unobserve(entry.target); render(entry.target); }),
  { rootMargin: "600px" });
  charts.forEach((chart) => watcher.observe(chart));
  window.addEventListener("beforeprint", () =>
    charts.filter((chart) => !drawn.has(chart)).forEach(render));

  const narrow = window.matchMedia("(max-width: 69.99rem)");
  const contents = document.getElementById("contents");
  const fold = () => { contents.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  window.matchMedia("(prefers-color-scheme: dark)")
    .addEventListener("change", () => redraw(["output", "loss", "tpm"]));
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => redraw(["tpm"]), 150);
  });
})();
