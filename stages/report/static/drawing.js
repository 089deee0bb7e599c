// The part of the page that is drawn on.
"use strict";

(() => {
  const part = (id) => document.getElementById(id);
  const { names, ...packed } = JSON.parse(part("network").textContent);
  const layers = load(packed);
  const [paper, pen] = [part("paper"), part("paper").getContext("2d", { willReadFrequently: true })];
  // What a picture may have at most, in pixels.
  const HUGE = 50_000_000;

  let strokes = []; // of each the points it goes through, in pixels of the paper
  let picture = null; // what was dropped, pasted or opened: its pixels, and how it is shown
  let pixels = null; // what the network gets
  const kept = []; // of each its pixels and its true label

  function make(kind, text, attributes = {}) {
    return Object.assign(document.createElement(kind), { textContent: text }, attributes);
  }

  function share(probability) {
    return `${(100 * probability).toFixed(1)}%`;
  }

  // Draw on a canvas, a number a pixel, 0 transparent and 255 ink.
  function show(canvas, numbers) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < numbers.length; i++) image.data[4 * i + 3] = numbers[i];
    context.putImageData(image, 0, 0);
  }

  function drawPaper() {
    pen.clearRect(0, 0, paper.width, paper.height);
    paper.className = picture ? "" : "ink";
    if (picture) {
      const scale = Math.min(paper.width / picture.shown.width, paper.height / picture.shown.height);
      const [w, h] = [picture.shown.width * scale, picture.shown.height * scale];
      pen.drawImage(picture.shown, (paper.width - w) / 2, (paper.height - h) / 2, w, h);
    }
    Object.assign(pen, { lineWidth: 18, lineCap: "round", lineJoin: "round" });
    for (const points of strokes) {
      pen.beginPath();
      pen.moveTo(...points[0]);
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
  }

  function read() {
    drawPaper();
    const drawn = picture ? picture.data : pen.getImageData(0, 0, paper.width, paper.height);
    pixels = picture || strokes.length ? handwriting(drawn) : null;
    show(part("seen"), pixels || new Uint8Array(SIDE * SIDE));
    const answers = run(layers, pixels || new Uint8Array(SIDE * SIDE), SIDE, SIDE);
    const probabilities = pixels ? answers[answers.length - 1].x : names.map(() => 0);
    rows.forEach(([bar, number], i) => {
      bar.style.width = `${100 * probabilities[i]}%`;
      number.textContent = pixels ? share(probabilities[i]) : "";
    });
    grids.forEach(([canvas, i]) => showFilters(canvas, answers[i], pixels));
    part("keep").disabled = !pixels;
    return probabilities;
  }

  // Say what is read; not while a stroke is drawn, lest a screen reader stammer.
  function say() {
    const probabilities = [...read()];
    const first = probabilities.indexOf(Math.max(...probabilities));
    let text = strokes.length ? "There is too little ink." : "Nothing is drawn yet.";
    if (picture) text = "There is nothing to see on this picture.";
    if (pixels) {
      text = `It reads ${names[first]}, ${share(probabilities[first])} sure.`;
      part("truth").value = first;
    }
    part("answer").textContent = text;
  }

  function showFilters(canvas, { h, w, c, x }, visible) {
    const across = Math.ceil(Math.sqrt(2 * c));
    [canvas.width, canvas.height] = [across * (w + 1), Math.ceil(c / across) * (h + 1)];
    const numbers = new Uint8Array(canvas.width * canvas.height);
    const strongest = x.reduce((a, b) => Math.max(a, b), 1e-9);
    x.forEach((n, i) => {
      const [filter, at] = [i % c, Math.floor(i / c)];
      const row = Math.floor(filter / across) * (h + 1) + Math.floor(at / w);
      const column = (filter % across) * (w + 1) + (at % w);
      numbers[row * canvas.width + column] = visible ? Math.max((255 * n) / strongest, 0) : 0;
    });
    show(canvas, numbers);
  }

  function clear() {
    [strokes, picture] = [[], null];
    say();
  }

  function undo() {
    if (picture) return clear();
    strokes.pop();
    say();
  }

  async function open(file) {
    if (!file) return;
    const options = { colorSpaceConversion: "none", imageOrientation: "from-image" };
    const shown = await createImageBitmap(file, options).catch(() => null);
    const [w, h] = shown ? [shown.width, shown.height] : [0, 0];
    if (w * h === 0 || w * h > HUGE) {
      clear();
      part("answer").textContent = `${file.name || "That"} is ${w ? "too large a" : "not a"} picture.`;
      return;
    }
    const context = make("canvas", "", { width: w, height: h }).getContext("2d");
    context.drawImage(shown, 0, 0);
    [strokes, picture] = [[], { shown, data: context.getImageData(0, 0, w, h) }];
    say();
  }

  // The bytes of an IDX file of numbers from 0 to 255.
  function idx(shape, bytes) {
    const header = new DataView(new ArrayBuffer(4 + 4 * shape.length));
    header.setUint32(0, 0x800 + shape.length);
    shape.forEach((size, i) => header.setUint32(4 + 4 * i, size));
    // With another type browsers would add an ending to the name of the file.
    return URL.createObjectURL(new Blob([header, ...bytes], { type: "application/octet-stream" }));
  }

  function list() {
    const count = kept.length;
    part("kept").textContent = count ? `Kept: ${count}. They are gone when this page is closed.` : "";
    part("forget").hidden = part("files").hidden = !count;
    part("list").replaceChildren(
      ...kept.map(([image, label]) => {
        const figure = make("figure");
        const says = { width: SIDE, height: SIDE, className: "ink", role: "img" };
        const canvas = make("canvas", "", { ...says, ariaLabel: `A ${names[label]} that is kept` });
        show(canvas, image);
        figure.append(canvas, make("figcaption", names[label]));
        return figure;
      }),
    );
    for (const id of ["images", "labels"]) URL.revokeObjectURL(part(id).href);
    part("images").href = idx([count, SIDE, SIDE], kept.map(([image]) => image));
    part("labels").href = idx([count], [Uint8Array.from(kept, ([, label]) => label)]);
  }

  const rows = names.map((name, label) => {
    part("truth").append(make("option", name, { value: label }));
    const row = part("bars").tBodies[0].insertRow();
    row.append(make("th", name, { scope: "row" }));
    const bar = row.insertCell().appendChild(make("div"));
    return [bar, row.insertCell()];
  });
  const grids = layers.flatMap(({ kind, name }, i) => {
    if (kind !== "Conv2D") return [];
    const canvas = make("canvas", "", { className: "ink", role: "img" });
    canvas.ariaLabel = `What the filters of ${name} see`;
    part("layers").append(make("h3", name), canvas);
    return [[canvas, i]];
  });

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      read();
    });
  }

  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = paper.getBoundingClientRect();
    return [((clientX - left) / width) * paper.width, ((clientY - top) / height) * paper.height];
  };
  paper.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button) return;
    if (picture) clear();
    paper.setPointerCapture(event.pointerId);
    strokes.push([place(event)]);
    soon();
  });
  paper.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !paper.hasPointerCapture(event.pointerId)) return;
    strokes[strokes.length - 1].push(...event.getCoalescedEvents().map(place), place(event));
    soon();
  });
  paper.addEventListener("lostpointercapture", say);
  paper.addEventListener("keydown", (event) => {
    const back = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
    if (!back && event.key !== "Escape") return;
    event.preventDefault();
    (back ? undo : clear)();
  });
  part("undo").addEventListener("click", undo);
  part("clear").addEventListener("click", clear);
  part("open").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", ({ target }) => {
    open(target.files[0]);
    target.value = "";
  });
  part("draw").addEventListener("dragover", (event) => event.preventDefault());
  part("draw").addEventListener("drop", (event) => {
    event.preventDefault();
    open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", ({ clipboardData }) => open(clipboardData.files[0]));
  part("teach").addEventListener("submit", (event) => {
    event.preventDefault();
    kept.push([pixels, Number(part("truth").value)]);
    list();
  });
  part("forget").addEventListener("click", () => {
    kept.pop();
    list();
  });
  say();
})();
