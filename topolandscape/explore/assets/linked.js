// What belongs together on a page: figures and what is chosen in, figures out. Used by live and by kept pages.
"use strict";

window.linked = (() => {
  const CHOSEN = "#D55E00", LOWER = "#009E73", WHITE_LINE = {width: 1, color: "white"};

  // The length below which bars are hidden, from the place of the slider: fine steps where bars are short.
  const shortest = (slider, views) => views.longest * (slider / 100) ** 3;

  const isLong = (key, limit) => !key || key[1] === null || key[1] >= limit;

  // A trace that holds the points of one bar only, drawn over the others.
  function marked(trace, bar, colour) {
    const held = trace.customdata.map((key, i) => (key && key[0] === bar ? i : -1)).filter(i => i >= 0);
    if (!held.length) return null;
    const pick = values => (Array.isArray(values) ? held.map(i => values[i]) : values);
    const over = {...trace, meta: "over", customdata: null, x: pick(trace.x), y: pick(trace.y), text: pick(trace.text)};
    Object.assign(over, {showlegend: false, hoverinfo: "skip", name: ""});
    if (trace.line) over.line = {...trace.line, color: colour, width: Math.max(3, (trace.line.width || 1) + 2)};
    if (trace.marker) {
      over.marker = {...trace.marker, color: colour, size: trace.marker.size + 4};
      if (!String(trace.marker.symbol).includes("open")) over.marker.line = WHITE_LINE;
    }
    return over;
  }

  // The figure with short bars hidden, and with the chosen bar and the lower minimum that it meets drawn over it.
  function shown(figure, state) {
    const data = [], over = [];
    for (const trace of figure.data) {
      const isBars = trace.meta === "bars";
      if (isBars || trace.meta === "own") {
        data.push({...trace, y: trace.y.map((y, i) => (isLong(trace.customdata[i], state.limit) ? y : null))});
      } else if (trace.meta !== "ways") {
        data.push(trace);
      }
      if (isBars || trace.meta === "ways") {
        if (isBars && state.lower !== null) over.push(marked(trace, state.lower, LOWER));
        if (state.bar !== null) over.push(marked(trace, state.bar, CHOSEN));
      }
    }
    return {...figure, data: data.concat(over.filter(trace => trace !== null))};
  }

  function stateOf(views, bar, slider) {
    const lower = bar === null || views.lower[bar] === undefined ? null : views.lower[bar];
    return {bar, lower, limit: shortest(slider, views)};
  }

  const longEnough = (views, slider) =>
    views.table.rows.filter(row => row.length === null || row.length >= shortest(slider, views));

  const saidOfThreshold = (views, slider) => {
    const limit = shortest(slider, views);
    return `${longEnough(views, slider).length} of ${views.table.rows.length} bars` +
      (limit > 0 ? ` of length ${limit.toPrecision(3)} or more` : "");
  };

  // The loss at a share of the length of a path, whose curve is the first trace.
  function placeOn(figure, share) {
    const {x, y} = figure.data[0];
    const at = x[x.length - 1] * share / 100;
    let i = 1;
    while (i < x.length - 1 && x[i] < at) i++;
    const step = x[i] - x[i - 1];
    return {x: at, y: y[i - 1] + (step > 0 ? (at - x[i - 1]) / step : 0) * (y[i] - y[i - 1])};
  }

  function walked(figure, share) {
    const place = placeOn(figure, share);
    const here = {type: "scatter", mode: "markers", name: "here", x: [place.x], y: [place.y], showlegend: false};
    here.marker = {color: CHOSEN, size: 13, symbol: "circle-open", line: {width: 3}};
    return {...figure, data: [...figure.data, here]};
  }

  const saidOfPlace = (figure, share) => {
    const place = placeOn(figure, share);
    return `loss ${place.y.toPrecision(6)} at ${place.x.toPrecision(3)}`;
  };

  const empty = text => ({
    data: [],
    layout: {
      xaxis: {visible: false}, yaxis: {visible: false}, margin: {l: 10, r: 10, t: 10, b: 10},
      annotations: [{text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5}],
    },
  });

  function pathFigure(views, bar, share) {
    const figure = bar === null ? undefined : views.paths[bar];
    if (figure) return walked(figure, share);
    return empty(bar === null ? "choose a bar" : "there is no path of this bar");
  }

  // The table of bars; a row is chosen by a click or by Enter.
  function drawTable(element, views, bar, slider, choose) {
    const limit = shortest(slider, views), table = document.createElement("table");
    const line = (cells, kind) => {
      const row = document.createElement("tr");
      for (const text of cells) row.appendChild(document.createElement(kind)).textContent = text;
      return row;
    };
    table.createTHead().appendChild(line(views.table.columns, "th"));
    const body = table.createTBody();
    for (const entry of views.table.rows) {
      if (entry.length !== null && entry.length < limit) continue;
      const row = line(entry.cells, "td");
      Object.assign(row, {tabIndex: 0, onclick: () => choose(entry.bar)});
      row.onkeydown = event => { if (event.key === "Enter") choose(entry.bar); };
      row.dataset.bar = entry.bar;
      row.setAttribute("aria-selected", String(entry.bar === bar));
      body.appendChild(row);
    }
    const [top, hadFocus] = [element.scrollTop, element.contains(document.activeElement)];
    element.replaceChildren(table);
    element.scrollTop = top;
    const chosen = body.querySelector('[aria-selected="true"]');
    if (chosen) {
      const [above, below] = [chosen.offsetTop - 24, chosen.offsetTop + chosen.offsetHeight - element.clientHeight];
      if (above < element.scrollTop) element.scrollTop = above;
      if (below > element.scrollTop) element.scrollTop = below;
      if (hadFocus) chosen.focus({preventScroll: true});
    }
  }

  // The bar after or before the chosen one among those that are shown.
  function beside(views, bar, slider, step) {
    const rows = longEnough(views, slider);
    const at = rows.findIndex(row => row.bar === bar);
    const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1);
    return rows.length ? rows[next].bar : null;
  }

  // The longest bar along whose path the loss is known: the one that is chosen at first.
  const first = views => (views.table.rows.find(row => views.paths[row.bar]) || {bar: null}).bar;

  const stepOfKey = event => {
    if (/^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(event.target.tagName)) return 0;
    return {ArrowDown: 1, ArrowUp: -1}[event.key] || 0;
  };

  // What the address says: texts by name.
  const ofAddress = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const toAddress = values => {
    const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
    history.replaceState(null, "", known.length ? "#" + new URLSearchParams(known) : location.pathname + location.search);
  };

  // -------------------------------------------------------------------------------------------------- keeping

  function keep(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type}));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const quoted = value => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = lines => lines.map(line => line.map(quoted).join(",")).join("\n") + "\n";

  // The points of a figure, one a line; those of a grid with their losses, those of bars with the row of the bar.
  function linesOf(figure) {
    const lines = [["trace", "x", "y", "z", "bar"]];
    figure.data.forEach((trace, i) => {
      if (trace.meta === "over") return;
      const name = trace.name || `${trace.type} ${i}`, x = trace.x || [], y = trace.y || [];
      if (Array.isArray(trace.z) && Array.isArray(trace.z[0])) {
        const losses = trace.customdata || trace.z;
        losses.forEach((row, j) => row.forEach((z, k) => lines.push([name, x[k], y[j], z, null])));
      } else {
        const key = j => (trace.customdata && trace.customdata[j] ? [trace.customdata[j]].flat()[0] : null);
        x.forEach((value, j) => {
          if (value !== null && y[j] !== null) lines.push([name, value, y[j], (trace.z || [])[j], key(j)]);
        });
      }
    });
    return lines;
  }

  function save(name, format, element, tableOf) {
    if (element.querySelector("table")) {
      const {columns, rows} = tableOf();
      if (format === "csv") keep(`${name}.csv`, csv([columns, ...rows.map(row => row.cells)]), "text/csv");
      if (format === "json") keep(`${name}.json`, JSON.stringify({columns, rows}), "application/json");
      return;
    }
    const plot = element.querySelector(".js-plotly-plot");
    if (format === "csv") keep(`${name}.csv`, csv(linesOf(plot)), "text/csv");
    else if (format === "json") keep(`${name}.json`, JSON.stringify({data: plot.data, layout: plot.layout}), "application/json");
    else Plotly.downloadImage(plot, {format, filename: name, width: 900, height: 600, scale: format === "png" ? 2 : 1});
  }

  // Menus with the class "save" keep the view whose id they name.
  function listenToMenus(tableOf) {
    document.addEventListener("change", event => {
      const menu = event.target;
      if (!menu.classList || !menu.classList.contains("save")) return;
      save(menu.dataset.view, menu.value, document.getElementById(menu.dataset.view), tableOf);
      menu.value = "";
    });
  }

  return {shown, stateOf, shortest, saidOfThreshold, pathFigure, saidOfPlace, empty, drawTable, beside, first, stepOfKey,
          ofAddress, toAddress, listenToMenus};
})();
