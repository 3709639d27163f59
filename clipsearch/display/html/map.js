"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const map = byId("map");
  const large = byId("large");
  const keys = byId("keys");
  const EDGE = 56;
  const MOST = 400;
  const points = [...document.querySelectorAll("#points li")].map((item) => ({
    item,
    link: item.firstElementChild,
    x: +item.dataset.x,
    y: +item.dataset.y,
    ratio: item.dataset.src ? item.dataset.w / item.dataset.h : 0,
    image: null,
    shown: false,
  }));
  // Where the middle of the window lies on the map, and how much larger than everything it is.
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let here = -1;
  let due = false;

  // Pixels of the map's unit: at zoom 1 all of it is seen.
  const unit = () => {
    const spread = (axis) => Math.max(0.02, ...points.map((p) => 2 * Math.abs(p[axis] - 0.5)));
    unit.x = unit.x || spread("x");
    unit.y = unit.y || spread("y");
    const wide = Math.max(40, map.clientWidth - 2 * EDGE) / unit.x;
    const high = Math.max(40, map.clientHeight - 2 * EDGE) / unit.y;
    return Math.min(wide, high) * view.zoom;
  };
  // A picture of this side, in pixels, stands for a point: larger where one has gone near.
  const side = () => Math.min(160, Math.max(44, Math.min(map.clientWidth, map.clientHeight) / 12) * view.zoom ** 0.35);

  const later = () => {
    if (!due) requestAnimationFrame(draw);
    due = true;
  };

  const draw = () => {
    due = false;
    const scale = unit();
    const size = side();
    const taken = new Map();
    const order = here < 0 ? points : [points[here], ...points.filter((_, i) => i !== here)];
    for (const point of order) {
      const x = map.clientWidth / 2 + (point.x - view.x) * scale;
      const y = map.clientHeight / 2 + (point.y - view.y) * scale;
      const near = x > -size && y > -size && x < map.clientWidth + size && y < map.clientHeight + size;
      point.item.hidden = !near;
      if (!near) continue;
      point.item.style.transform = `translate(${x}px, ${y}px)`;
      place(point, point.ratio > 0 && isFree(taken, x, y, size), size);
    }
  };

  // Whether no picture that is shown reaches here; a grid of cells of a picture's side keeps that quick.
  const isFree = (taken, x, y, size) => {
    const column = Math.floor(x / size);
    const row = Math.floor(y / size);
    for (let i = column - 1; i <= column + 1; i++) {
      for (let j = row - 1; j <= row + 1; j++) {
        const other = taken.get(`${i},${j}`);
        if (other && Math.abs(other[0] - x) < size && Math.abs(other[1] - y) < size) return false;
      }
    }
    taken.set(`${column},${row}`, [x, y]);
    return true;
  };

  const place = (point, shown, size) => {
    if (shown) {
      if (!point.image) {
        point.image = new Image();
        point.image.alt = "";
        point.image.src = point.item.dataset.src;
      }
      if (!point.shown) point.link.replaceChildren(point.image);
      const most = size - 6;
      point.image.width = Math.round(point.ratio > 1 ? most : most * point.ratio);
      point.image.height = Math.round(point.ratio > 1 ? most / point.ratio : most);
    } else if (point.shown) {
      point.link.replaceChildren();
    }
    point.shown = shown;
    point.item.className = (shown ? "shown" : "") + (points[here] === point ? " here" : "");
  };

  // Zoom by `factor` about a place of the window.
  const zoom = (factor, x = map.clientWidth / 2, y = map.clientHeight / 2) => {
    const before = unit();
    const dx = (x - map.clientWidth / 2) / before;
    const dy = (y - map.clientHeight / 2) / before;
    const wanted = Math.min(MOST, Math.max(1, view.zoom * factor));
    const change = view.zoom / wanted;
    view = { x: view.x + dx * (1 - change), y: view.y + dy * (1 - change), zoom: wanted };
    hold();
  };
  const hold = () => {
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(1, Math.max(0, view.y));
    if (view.zoom === 1) view = { x: 0.5, y: 0.5, zoom: 1 };
    later();
  };
  const all = () => {
    view = { x: 0.5, y: 0.5, zoom: 1 };
    later();
  };

  const tell = (point) => {
    const name = document.createElement("b");
    name.textContent = point.item.dataset.name;
    byId("hint").replaceChildren(name, ` ${point.item.dataset.where} · ${point.item.dataset.facts}`);
  };

  const go = (to) => {
    here = to;
    const point = points[to];
    const scale = unit();
    const outside = (d, room) => Math.abs(d * scale) > room / 2 - EDGE;
    if (outside(point.x - view.x, map.clientWidth)) view.x = point.x;
    if (outside(point.y - view.y, map.clientHeight)) view.y = point.y;
    point.item.hidden = false;
    point.link.focus({ preventScroll: true });
    tell(point);
    later();
  };

  // The nearest that way: what lies aside counts double.
  const next = (dx, dy) => {
    if (here < 0) return nearest();
    let best = -1;
    let least = Infinity;
    points.forEach((point, i) => {
      const x = point.x - points[here].x;
      const y = point.y - points[here].y;
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy) + Math.abs(y * dx);
      const far = along + 2 * aside;
      if (i !== here && along > 0 && aside <= 2 * along && far < least) {
        least = far;
        best = i;
      }
    });
    return best;
  };
  const nearest = () => {
    const far = (p) => (p.x - view.x) ** 2 + (p.y - view.y) ** 2;
    return points.reduce((best, point, i) => (best < 0 || far(point) < far(points[best]) ? i : best), -1);
  };

  const show = (point) => {
    byId("name").textContent = point.item.dataset.name;
    byId("where").textContent = `${point.item.dataset.where} · ${point.item.dataset.facts}`;
    byId("original").href = point.link.href;
    const small = point.ratio ? new Image() : document.createElement("p");
    if (point.ratio) small.src = point.item.dataset.src;
    else small.textContent = point.link.ariaLabel;
    byId("stage").replaceChildren(small);
    const original = new Image();
    original.alt = point.item.dataset.name;
    original.addEventListener("load", () => { if (small.isConnected) small.replaceWith(original); });
    if (point.ratio) original.src = point.link.href;
    large.showModal();
    byId("original").focus();
  };

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") {
      if (keys.open) keys.close();
      else keys.showModal();
    } else if (keys.open || !points.length) {
      return;
    } else if (large.open) {
      if (event.key !== " " || event.target.tagName === "BUTTON") return;
      large.close();
    } else if (event.key in ways) {
      const to = next(...ways[event.key]);
      if (to >= 0) go(to);
    } else if (event.key === "+" || event.key === "=") {
      const at = here < 0 ? null : points[here];
      if (at) Object.assign(view, { x: at.x, y: at.y });
      zoom(1.5);
    } else if (event.key === "-") {
      zoom(1 / 1.5);
    } else if (event.key === "0") {
      all();
    } else if (event.key === " " && here >= 0 && event.target.tagName !== "BUTTON") {
      show(points[here]);
    } else {
      return;
    }
    event.preventDefault();
  });

  // One pointer moves the map, two zoom it.
  const down = new Map();
  let moved = 0;
  map.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, event);
    moved = 0;
  });
  addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    if (!last) return;
    const scale = unit();
    const others = [...down.values()].filter((each) => each.pointerId !== event.pointerId);
    moved += Math.hypot(event.clientX - last.clientX, event.clientY - last.clientY);
    map.classList.toggle("dragged", moved > 4);
    if (others.length) {
      const box = map.getBoundingClientRect();
      const reach = (each) => Math.hypot(each.clientX - others[0].clientX, each.clientY - others[0].clientY);
      zoom(reach(event) / Math.max(1, reach(last)), others[0].clientX - box.x, others[0].clientY - box.y);
    } else if (view.zoom > 1) {
      view.x -= (event.clientX - last.clientX) / scale;
      view.y -= (event.clientY - last.clientY) / scale;
      hold();
    }
    down.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, (event) => {
      down.delete(event.pointerId);
      map.classList.remove("dragged");
    });
  }
  map.addEventListener("dragstart", (event) => event.preventDefault());
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = map.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 33 : 1;
    zoom(Math.exp(-event.deltaY * lines * 0.002), event.clientX - box.x, event.clientY - box.y);
  }, { passive: false });
  points.forEach((point, number) => {
    point.link.addEventListener("pointerenter", () => tell(point));
    point.link.addEventListener("focus", () => { if (here !== number) go(number); });
    point.link.addEventListener("click", (event) => {
      // Enter clicks too, without a pointer: it follows the link, as do the keys for a new tab.
      if (event.detail === 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (moved > 4) return;
      go(number);
      show(point);
    });
  });
  large.addEventListener("close", () => {
    byId("stage").replaceChildren();
    points[here].link.focus({ preventScroll: true });
  });
  for (const dialog of [large, keys]) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  }
  byId("in").addEventListener("click", () => zoom(1.5));
  byId("out").addEventListener("click", () => zoom(1 / 1.5));
  byId("all").addEventListener("click", all);
  byId("help").addEventListener("click", () => keys.showModal());
  addEventListener("resize", later);
  // The first picture can be reached by Tab.
  if (points.length) points[nearest()].link.tabIndex = 0;
  draw();
})();
