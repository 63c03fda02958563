(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const count = data.slices.length;
  const hasMap = data.maps.length === count;
  const FOR = [255, 154, 61];
  const AGAINST = [92, 157, 255];

  const slice = find("slice");
  const overlay = find("overlay");
  const slider = find("slider");
  const toggle = find("overlay-on");
  const opacity = find("opacity");
  const proportions = find("proportions");
  const plots = [...document.querySelectorAll(".plot")];
  const bars = plots.map((plot) => [...plot.querySelectorAll(".bar")]);

  const front = find("front");
  const clicked = [];
  let current = -1;
  let drawing = 0;

  const percent = (value) => {
    if (value > 0.999) return "over 99.9 %";
    if (value < 0.001) return "under 0.1 %";
    return (100 * value).toFixed(1) + " %";
  };
  const picture = (kind, content) => "data:image/" + kind + ";base64," + content;

  // A map's levels are stored as 128 + 127 v with v in [-1, 1]; zero is transparent.
  const colour = (pixels, gain) => {
    for (let i = 0; i < pixels.length; i += 4) {
      const value = Math.max(-1, Math.min(1, ((pixels[i] - 128) / 127) * gain));
      const tint = value >= 0 ? FOR : AGAINST;
      pixels[i] = tint[0];
      pixels[i + 1] = tint[1];
      pixels[i + 2] = tint[2];
      pixels[i + 3] = Math.round(255 * Math.pow(Math.abs(value), 0.8));
    }
  };

  const paint = async (canvas, content, gain, isWanted) => {
    const image = new Image();
    image.src = picture("png", content);
    await image.decode();
    if (!isWanted()) return;
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const raster = context.getImageData(0, 0, canvas.width, canvas.height);
    colour(raster.data, gain);
    context.putImageData(raster, 0, 0);
  };

  const ownScale = () => hasMap && find("scale-slice").checked;
  const drawMap = async () => {
    if (!hasMap) return;
    const number = current;
    const turn = ++drawing;
    await paint(overlay, data.maps[number], ownScale() ? 1 : data.peaks[number], () => turn === drawing);
    if (turn === drawing) overlay.dataset.slice = String(number);
  };

  const show = (wanted) => {
    const number = Math.max(0, Math.min(count - 1, wanted));
    if (number === current) return;
    const before = current;
    current = number;
    slice.src = picture("jpeg", data.slices[number]);
    slice.alt = data.word + " " + (number + 1) + " of " + count;
    slider.value = String(number + 1);
    find("number").textContent = number + 1 + " / " + count;
    const status = find("status");
    const own = document.createElement("b");
    own.textContent = percent(data.probabilities[number]);
    if (data.weights) {
      const weight = document.createElement("b");
      weight.textContent = percent(data.weights[number]);
      status.replaceChildren("Weight ", weight, ", own probability ", own);
    } else status.replaceChildren("Own probability ", own);
    if (data.titles.length) status.append(", " + data.titles[number]);
    clicked.length = 0;
    setPoints();
    for (const own of bars) {
      if (before >= 0) own[before].classList.remove("current");
      own[number].classList.add("current");
    }
    for (const line of document.querySelectorAll(".here")) {
      const x = ((number + 0.5) / count) * 1000;
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
    if (front) {
      const here = find("front-here");
      here.style.top = (100 * number) / count + "%";
      here.style.height = Math.max(100 / count, 0.8) + "%";
    }
    drawMap();
  };

  const setOverlay = () => {
    if (!hasMap) return;
    const strength = toggle.checked ? Number(opacity.value) / 100 : 0;
    for (const canvas of front ? [overlay, find("front-overlay")] : [overlay]) {
      canvas.style.opacity = String(strength);
      canvas.style.visibility = toggle.checked ? "visible" : "hidden";
    }
    find("opacity-number").textContent = opacity.value + " %";
    opacity.disabled = !toggle.checked;
  };

  const known = (value) => typeof value === "number";
  const [lateral, axial, between] = data.spacing;
  const flat = known(lateral) && known(axial);
  const setProportions = () => {
    const [depth, width] = data.size;
    const ratio = proportions.checked ? (width * lateral) / (depth * axial) : width / depth;
    find("frame").style.setProperty("--ratio", String(ratio));
  };
  const niceLength = (extent) => {
    const steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
    return steps.filter((length) => length <= extent / 4).pop();
  };
  const setScaleBars = () => {
    const [depth, width] = data.size;
    const bar = (id, spacing, pixels, side) => {
      const length = known(spacing) ? niceLength(spacing * pixels) : undefined;
      if (length === undefined) return;
      const element = find(id);
      element.style[side] = (100 * length) / (spacing * pixels) + "%";
      element.firstElementChild.textContent = length >= 1 ? length + " mm" : Math.round(1000 * length) + " µm";
      element.hidden = false;
    };
    bar("bar-x", lateral, width, "width");
    bar("bar-y", axial, depth, "height");
  };
  const setFront = () => {
    if (!front) return;
    const width = data.size[1];
    const ratio = known(lateral) && known(between) && count > 1 ? (width * lateral) / (count * between) : 1.4;
    find("front").style.setProperty("--front-ratio", String(Math.max(0.5, Math.min(4, ratio))));
    find("front-image").src = picture("png", data.front);
    if (data.frontMap) paint(find("front-overlay"), data.frontMap, 1, () => true);
  };

  const setPoints = () => {
    const [depth, width] = data.size;
    const marks = data.points.filter((point) => point[0] === current).map((point) => [...point.slice(1), "point"]);
    for (const [row, column] of clicked) marks.push([row, column, "", "point own"]);
    find("points").replaceChildren(
      ...marks.map(([row, column, text, kind]) => {
        const mark = document.createElement("div");
        mark.className = kind;
        mark.style.left = (100 * (column + 0.5)) / width + "%";
        mark.style.top = (100 * (row + 0.5)) / depth + "%";
        mark.title = [text, words(row, column)].filter(Boolean).join(": ");
        return mark;
      }),
    );
    const shown = data.points.filter((point) => point[0] === current && point[3]);
    const texts = shown.map((point) => point[3] + ": " + words(point[1], point[2]));
    if (clicked.length) texts.push("marked: " + clicked.map((place) => words(...place)).join(" and "));
    if (clicked.length === 2) texts.push("distance " + distance(...clicked));
    find("place").textContent = texts.join("; ");
    find("place").hidden = !texts.length;
  };
  const words = (row, column) =>
    flat
      ? (lateral * (column + 0.5)).toFixed(2) + " mm from the left, " + (axial * (row + 0.5)).toFixed(2) + " mm from the top"
      : "column " + Math.round(column + 1) + ", row " + Math.round(row + 1);
  const distance = (one, other) => {
    const across = other[1] - one[1];
    const down = other[0] - one[0];
    if (flat) return Math.hypot(across * lateral, down * axial).toFixed(2) + " mm";
    return Math.hypot(across, down).toFixed(0) + " pixels";
  };
  find("frame").addEventListener("click", (event) => {
    const box = find("frame").getBoundingClientRect();
    const row = ((event.clientY - box.top) / box.height) * data.size[0] - 0.5;
    const column = ((event.clientX - box.left) / box.width) * data.size[1] - 0.5;
    if (clicked.length === 2) clicked.length = 0;
    clicked.push([row, column]);
    setPoints();
  });

  const counts = data.weights || data.probabilities;
  const heaviest = counts.indexOf(Math.max(...counts));
  const edge = find("outline-on");
  if (edge) edge.addEventListener("change", () => find("outline").toggleAttribute("hidden", !edge.checked));
  const flip = (box) => {
    if (!box || box.disabled) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  };
  const stronger = (step) => {
    if (!hasMap) return;
    opacity.value = String(Number(opacity.value) + step);
    setOverlay();
  };
  const actions = {
    ArrowLeft: () => show(current - 1),
    ArrowUp: () => show(current - 1),
    ArrowRight: () => show(current + 1),
    ArrowDown: () => show(current + 1),
    PageUp: () => show(current - 10),
    PageDown: () => show(current + 10),
    Home: () => show(0),
    End: () => show(count - 1),
    w: () => show(heaviest),
    o: () => flip(toggle),
    l: () => flip(edge),
    p: () => flip(proportions),
    "+": () => stronger(10),
    "=": () => stronger(10),
    "-": () => stronger(-10),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const moves = event.key.length > 1;
    // These have a use of their own for the keys that move.
    const own = event.target === opacity || event.target.type === "radio";
    if (!action || (moves && own)) return;
    event.preventDefault();
    action();
  });
  let turned = 0;
  find("stage").addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * 40;
      const steps = Math.trunc(turned / 40);
      turned -= steps * 40;
      if (steps) show(current + Math.sign(steps) * Math.min(Math.abs(steps), 3));
    },
    { passive: false },
  );
  const place = (event, side) => {
    const box = event.currentTarget.getBoundingClientRect();
    const part = side === "x" ? (event.clientX - box.left) / box.width : (event.clientY - box.top) / box.height;
    show(Math.floor(part * count));
  };
  for (const plot of plots) plot.addEventListener("click", (event) => place(event, "x"));
  if (front) front.addEventListener("click", (event) => place(event, "y"));
  slider.addEventListener("input", () => show(Number(slider.value) - 1));
  proportions.addEventListener("change", setProportions);
  if (!flat) {
    proportions.disabled = true;
    find("proportions-row").classList.add("off");
    find("proportions-row").append(" (spacing unknown)");
  }
  if (hasMap) {
    toggle.addEventListener("change", setOverlay);
    opacity.addEventListener("input", setOverlay);
    for (const id of ["scale-volume", "scale-slice"]) find(id).addEventListener("change", drawMap);
  }
  setProportions();
  setScaleBars();
  setFront();
  setOverlay();
  show(heaviest);
})();
