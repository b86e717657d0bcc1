// A page that is kept: the views of a run, drawn and linked without a server.
"use strict";

(() => {
  const views = JSON.parse(document.getElementById("views").textContent);
  const asked = linked.ofAddress();
  const number = (text, otherwise) => (text === undefined || isNaN(text) ? otherwise : Number(text));
  const state = {bar: number(asked.bar, linked.first(views)), shortest: number(asked.shortest, 0), place: number(asked.place, 0)};
  const byId = id => document.getElementById(id);

  function draw(id, figure) {
    const plot = byId(id).firstElementChild;
    Plotly.react(plot, figure.data, figure.layout, {responsive: true, displaylogo: false});
    if (plot.dataset.listens) return;
    plot.dataset.listens = "yes";
    plot.on("plotly_click", event => {
      const key = event.points[0].customdata;
      if (event.points[0].data.meta === "bars" && key && key[0] >= 0) choose(key[0]);
    });
  }

  function drawPath() {
    draw("path", linked.pathFigure(views, state.bar, state.place));
    const figure = views.paths[state.bar];
    byId("said-place").textContent = figure ? linked.saidOfPlace(figure, state.place) : "";
    byId("place").disabled = !figure;
  }

  function remember() {
    linked.toAddress({bar: state.bar, shortest: state.shortest || null, place: state.place || null});
  }

  function drawAll() {
    const chosen = linked.stateOf(views, state.bar, state.shortest);
    for (const [id, figure] of Object.entries(views.figures)) draw(id, linked.shown(figure, chosen));
    drawPath();
    linked.drawTable(byId("table"), views, state.bar, state.shortest, choose);
    byId("said-shortest").textContent = linked.saidOfThreshold(views, state.shortest);
    remember();
  }

  function choose(bar) {
    Object.assign(state, {bar, place: 0});
    byId("place").value = 0;
    drawAll();
  }

  byId("shortest").value = state.shortest;
  byId("place").value = state.place;
  byId("shortest").addEventListener("input", event => { state.shortest = Number(event.target.value); drawAll(); });
  byId("place").addEventListener("input", event => {
    state.place = Number(event.target.value);
    drawPath();
    remember();
  });
  document.addEventListener("keydown", event => {
    const step = linked.stepOfKey(event);
    if (!step) return;
    event.preventDefault();
    choose(linked.beside(views, state.bar, state.shortest, step));
  });
  linked.listenToMenus(() => views.table);
  drawAll();
})();
