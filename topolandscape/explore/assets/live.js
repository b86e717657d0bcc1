// The live page: what is chosen in one view is drawn in all; the server is asked only for what needs the network.
"use strict";

(() => {
  const latest = {views: null, bar: null, shortest: 0};
  const none = () => window.dash_clientside.no_update;
  const asked = linked.ofAddress();
  const json = (text, otherwise) => { try { return JSON.parse(text); } catch { return otherwise; } };
  const triggered = () => {
    const [first] = window.dash_clientside.callback_context.triggered;
    return first ? first.prop_id.split(".")[0] : "";
  };
  const keyOf = click => {
    const point = click && click.points && click.points[0];
    return point && point.customdata !== undefined && point.customdata !== null ? point.customdata : null;
  };
  const set = (id, props) => window.dash_clientside.set_props(id, props);
  let restored = false, opened = 0, awaited = 1;

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    live: {
      // ------------------------------------------------------------------------------ the views of the run
      draw(views, bar, slider, place) {
        Object.assign(latest, {views, bar, shortest: slider});
        const names = ["bars", "tree", "diagram", "histogram", "landscape"];
        const show = (id, yes) => document.getElementById(id).classList.toggle("hidden", !yes);
        show("kept", views);
        show("shortest-label", views);
        // Without the bar that is chosen in a moment all would be drawn twice.
        if (!views || (bar === null && linked.first(views) !== null)) return Array(names.length + 5).fill(none());
        show("landscape-view", views.figures.landscape);
        document.getElementById("histogram-view").classList.toggle("whole", Boolean(views.figures.landscape));
        const state = linked.stateOf(views, bar, Number(slider));
        linked.drawTable(document.getElementById("table"), views, bar, Number(slider), choose);
        const path = views.paths[bar];
        return [
          ...names.map(name => (views.figures[name] ? linked.shown(views.figures[name], state) : none())),
          linked.pathFigure(views, bar, Number(place)),
          linked.saidOfThreshold(views, Number(slider)),
          path ? linked.saidOfPlace(path, Number(place)) : "",
          views.about,
          !path,
        ];
      },

      clicked(...clicks) {
        const names = ["bars", "tree", "diagram", "landscape"], name = triggered().replace("-graph", "");
        const key = keyOf(clicks[names.indexOf(name)]);
        return Array.isArray(key) && key[0] >= 0 ? key[0] : none();
      },

      // The bar of a run that was just opened: that of the address, or the longest with a path.
      opened(views) {
        opened += 1;
        if (!views) return null;
        if (!restored && asked.bar !== undefined) return Number(asked.bar);
        return linked.first(views);
      },

      // ------------------------------------------------------------------------------ the point that is looked at
      // A bar leads to its minimum, the slider along its path, a click on the slice to the place of the click.
      base(bar, place, click, views, slice, before) {
        const by = triggered();
        if (by === "slice-graph") {
          const point = click && click.points && click.points[0];
          if (!point || !slice) return none();
          return {plane: slice.plane, xy: [point.x, point.y]};
        }
        if (!restored && asked.base) return json(asked.base, {start: 0});
        if (!views || bar === null) return before || {start: 0};
        if (by === "place" && views.paths[bar]) return {path: [bar, Number(place) / 100]};
        const row = views.table.rows.find(entry => entry.bar === bar);
        return row && row.minimum !== null ? {minimum: row.minimum} : {start: 0};
      },

      picked(network, weights) {
        const key = keyOf(triggered() === "network-graph" ? network : weights);
        return typeof key === "number" ? key : none();
      },

      // A weight is moved by the slider; another point, or the button, forgets what was moved.
      moved(value, base, unmove, at, before) {
        const by = triggered();
        if (!restored && asked.moved) return json(asked.moved, {});
        if (by !== "weight") return Object.keys(before || {}).length ? {} : none();
        if (!at || Number(value) === at.value) return none();
        return {...before, [at.number]: Number(value)};
      },

      saidWeight(at, moved) {
        if (!at) return "no weight is picked";
        const value = moved && moved[at.number] !== undefined ? moved[at.number] : at.value;
        return `${at.name} = ${value.toPrecision(4)}`;
      },

      // ------------------------------------------------------------------------------ slices
      // Threshold of the run also where the slice has bars of its own.
      slice(figure, slider, views) {
        if (!figure) return linked.empty("choose three points or directions, and compute");
        const limit = views ? linked.shortest(Number(slider), views) : 0;
        return linked.shown(figure, {bar: null, lower: null, limit});
      },

      // The plane through the minimum of a bar, its pass, and the lower minimum.
      ofBar(clicks, bar, views, options) {
        if (!clicks || !views || bar === null) return [none(), none(), none()];
        const row = views.table.rows.find(entry => entry.bar === bar);
        if (!row || row.lower === null) return [none(), none(), none()];
        const known = new Set(options.map(option => option.value));
        const wanted = [{minimum: row.minimum}, {pass: bar}, {minimum: row.lower}];
        return wanted.map(value => JSON.stringify(value).replaceAll(":", ": ")).map(text => (known.has(text) ? text : none()));
      },

      // ------------------------------------------------------------------------------ the address
      address(run, bar, shortest, place, base, moved, first, second, third, reach, side, mode, slice, status) {
        if (!restored) {
          if (!base || opened < awaited) return none();
          if (asked.run && Number(asked.run) !== run) {
            awaited = opened + 1;
            set("run", {value: Number(asked.run)});
            return none();
          }
          if (asked.shortest) set("shortest", {value: Number(asked.shortest)});
          for (const name of ["first", "second", "third", "mode"]) if (asked[name]) set(name, {value: asked[name]});
          for (const name of ["reach", "side"]) if (asked[name]) set(name, {value: Number(asked[name])});
          restored = true;
          return none();
        }
        if (asked.sliced && status && status.state === "ready") {
          delete asked.sliced;
          setTimeout(() => document.getElementById("compute").click(), 50);
        }
        const isMoved = moved && Object.keys(moved).length;
        linked.toAddress({
          run: run || null, bar, shortest: Number(shortest) || null, place: Number(place) || null,
          base: base ? JSON.stringify(base) : null, moved: isMoved ? JSON.stringify(moved) : null,
          first, second, third, reach, side, mode, sliced: slice || asked.sliced ? 1 : null,
        });
        return none();
      },
    },
  });

  function choose(bar) {
    set("bar", {data: bar});
    set("place", {value: 0});
  }

  document.addEventListener("keydown", event => {
    const step = linked.stepOfKey(event);
    if (!step || !latest.views) return;
    event.preventDefault();
    choose(linked.beside(latest.views, latest.bar, Number(latest.shortest), step));
  });
  linked.listenToMenus(() => latest.views.table);
})();
