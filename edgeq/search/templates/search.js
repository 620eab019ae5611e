"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const scales = { latency: 1e6, instructions: 1e-3, weights: 1, bitops: 1e-6, energy: 1e6 };
  const front = document.getElementById("front"), bits = document.getElementById("bits");
  const choice = document.getElementById("resource");
  const box = { left: 58, right: 30, top: 12, bottom: 44, width: 480, height: 300 };
  let selected = 0;

  const make = (parent, name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const clear = (node) => node.replaceChildren();
  const value = (point) => point.predicted[choice.value] * scales[choice.value];
  const short = (number) => Number(number.toPrecision(4)).toString();

  const range = (numbers) => {
    const low = Math.min(...numbers), high = Math.max(...numbers), pad = (high - low || Math.abs(high) * 0.1 || 1) * 0.06;
    return [low - pad, high + pad];
  };

  const dominated = (point) => data.points.some((other) => other !== point &&
    value(other) <= value(point) && other.accuracy >= point.accuracy &&
    (value(other) < value(point) || other.accuracy > point.accuracy));

  const draw = () => {
    clear(front);
    const [x0, x1] = range(data.points.map(value));
    const [y0, y1] = range([...data.points.map((p) => p.accuracy), data.reference, data.least ?? data.reference]);
    const x = (v) => box.left + (v - x0) / (x1 - x0) * (box.width - box.left - box.right);
    const y = (v) => box.height - box.bottom - (v - y0) / (y1 - y0) * (box.height - box.top - box.bottom);
    for (let i = 0; i <= 4; i++) {
      const across = x0 + (x1 - x0) * i / 4, up = y0 + (y1 - y0) * i / 4;
      make(front, "line", { x1: box.left, x2: box.width - box.right, y1: y(up), y2: y(up), class: "grid" });
      make(front, "text", { x: box.left - 6, y: y(up) + 4, "text-anchor": "end" }, short(up));
      make(front, "text", { x: x(across), y: box.height - box.bottom + 16, "text-anchor": "middle" }, short(across));
    }
    make(front, "text", { x: (box.left + box.width) / 2, y: box.height - 8, "text-anchor": "middle" },
      `${choice.value} (${data.units[choice.value]})`);
    if (data.least !== null) {
      make(front, "line", { x1: box.left, x2: box.width - box.right, y1: y(data.least), y2: y(data.least), class: "limit" });
    }
    data.points.forEach((point, index) => {
      const kind = point.chosen ? "chosen" : dominated(point) ? "" : "front";
      const dot = make(front, "circle", {
        cx: x(value(point)), cy: y(point.accuracy), r: point.chosen ? 7 : 5, tabindex: 0, role: "button",
        class: `point ${kind} ${index === selected ? "selected" : ""}`,
      });
      make(dot, "title", {}, `accuracy ${short(point.accuracy)}, ${short(value(point))} ${data.units[choice.value]}`);
      dot.addEventListener("click", () => select(index));
      dot.addEventListener("keydown", (event) => { if (event.key === "Enter") select(index); });
    });
  };

  const drawBits = (point) => {
    clear(bits);
    const count = data.layers.length, step = Math.max(8, Math.min(40, 440 / count)), width = 40 + step * count;
    bits.setAttribute("viewBox", `0 0 ${width} 200`);
    for (let b = 0; b <= 8; b += 2) {
      make(bits, "line", { x1: 24, x2: width, y1: 180 - b * 20, y2: 180 - b * 20, class: "grid" });
      make(bits, "text", { x: 18, y: 184 - b * 20, "text-anchor": "end" }, b);
    }
    point.bits.forEach((b, i) => {
      const bar = make(bits, "rect", {
        x: 28 + i * step, width: step * 0.8, y: 180 - b * 20, height: b * 20,
        class: `bit ${point.forms[i].endsWith("p") ? "packed" : ""}`,
      });
      make(bar, "title", {}, `${data.layers[i]}: ${point.forms[i]}`);
    });
  };

  const select = (index) => {
    selected = index;
    const point = data.points[index];
    document.getElementById("policy").textContent = point.policy;
    document.getElementById("label").textContent =
      `${point.chosen ? "Chosen" : point.uniform ? "8 bits everywhere" : "Policy"}: accuracy ${short(point.accuracy)}, ` +
      data.resources.map((r) => `${short(point.predicted[r] * scales[r])} ${data.units[r]}`).join(", ");
    document.querySelectorAll("tr[data-point]").forEach((row) =>
      row.classList.toggle("selected", Number(row.dataset.point) === index));
    const kinds = new Map();
    for (const [, kind, form] of point.others) kinds.set(`${kind} ${form}`, (kinds.get(`${kind} ${form}`) ?? 0) + 1);
    document.getElementById("others").textContent = kinds.size === 0 ? "" :
      `Beside the weights: ${[...kinds].map(([name, count]) => `${count} × ${name}`).join(", ")}`;
    draw();
    drawBits(point);
  };

  for (const name of data.resources) choice.append(new Option(name, name, name === data.objective, name === data.objective));
  choice.addEventListener("change", draw);
  document.querySelectorAll("tr[data-point]").forEach((row) =>
    row.addEventListener("click", () => select(Number(row.dataset.point))));
  select(0);
})();
