// The canvas to draw a digit on, its prediction, and the digits kept for training.
"use strict";

(() => {
  const part = (id) => document.getElementById(id);
  const { names, example, ...packed } = JSON.parse(part("network").textContent);
  const program = load(packed);
  const canvas = part("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  // The most pixels that a picture may have.
  const MAX_PIXELS = 50_000_000;

  let strokes = []; // each a list of points, in pixels of the canvas
  let picture = null; // dropped, pasted or opened: { shown: its bitmap, data: its pixels }
  let start = null; // the picture that the page opens with
  let pixels = null; // the input of the network, or null
  const kept = []; // each [pixels, true label]

  function make(kind, text, attributes = {}) {
    return Object.assign(document.createElement(kind), { textContent: text }, attributes);
  }

  function percent(probability) {
    return `${(100 * probability).toFixed(1)}%`;
  }

  // Show numbers on a canvas, one per pixel, from 0, transparent, to 255, ink.
  function show(target, numbers) {
    const context = target.getContext("2d");
    const image = context.createImageData(target.width, target.height);
    for (let i = 0; i < numbers.length; i++) image.data[4 * i + 3] = numbers[i];
    context.putImageData(image, 0, 0);
  }

  function redraw() {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    canvas.className = picture ? "" : "ink";
    if (picture) {
      const scale = Math.min(canvas.width / picture.shown.width, canvas.height / picture.shown.height);
      const [w, h] = [picture.shown.width * scale, picture.shown.height * scale];
      pen.drawImage(picture.shown, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
    }
    Object.assign(pen, { lineWidth: 18, lineCap: "round", lineJoin: "round" });
    for (const points of strokes) {
      pen.beginPath();
      pen.moveTo(...points[0]);
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
  }

  // Update the page for what is on the canvas; return the probabilities.
  function read() {
    redraw();
    const drawn = picture ? picture.data : pen.getImageData(0, 0, canvas.width, canvas.height);
    pixels = picture || strokes.length ? handwriting(drawn) : null;
    show(part("seen"), pixels || new Uint8Array(SIDE * SIDE));
    const activations = run(program, pixels || new Uint8Array(SIDE * SIDE), SIDE, SIDE);
    const probabilities = pixels ? activations[activations.length - 1].x : names.map(() => 0);
    rows.forEach(([bar, number], i) => {
      bar.style.width = `${100 * probabilities[i]}%`;
      number.textContent = pixels ? percent(probabilities[i]) : "";
    });
    grids.forEach(([target, i]) => showFilters(target, activations[i]));
    // A test image must not become a training image.
    part("keep").disabled = !pixels || (picture !== null && picture === start);
    return probabilities;
  }

  // Announce the prediction; not during a stroke, or a screen reader would repeat itself.
  function say() {
    const probabilities = [...read()];
    const first = probabilities.indexOf(Math.max(...probabilities));
    let text = strokes.length ? "There is too little ink." : "Nothing is drawn yet.";
    if (picture) text = "There is nothing to see on this picture.";
    if (pixels) {
      text = `It reads ${names[first]}, with ${percent(probabilities[first])} confidence.`;
      part("truth").value = first;
    }
    part("answer").textContent = text;
  }

  // Show the activations of a layer, a canvas per filter, on one scale.
  function showFilters(target, { h, w, c, x }) {
    for (let i = target.children.length; i < c; i++)
      target.append(make("canvas", "", { width: w, height: h, title: `Filter ${i}` }));
    const highest = pixels ? x.reduce((a, b) => Math.max(a, b), 1e-9) : Infinity;
    [...target.children].forEach((map, filter) => {
      const numbers = new Uint8Array(h * w);
      for (let i = 0; i < h * w; i++) numbers[i] = Math.max((255 * x[i * c + filter]) / highest, 0);
      show(map, numbers);
    });
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
    if (w * h === 0 || w * h > MAX_PIXELS) {
      clear();
      part("answer").textContent = `${file.name || "That"} is ${w ? "too large a" : "not a"} picture.`;
      return;
    }
    const context = make("canvas", "", { width: w, height: h }).getContext("2d");
    context.drawImage(shown, 0, 0);
    [strokes, picture] = [[], { shown, data: context.getImageData(0, 0, w, h) }];
    say();
  }

  // Put an image of SIDE x SIDE bytes in base64 on the canvas, as if it had been opened.
  function begin(image) {
    const shown = make("canvas", "", { width: SIDE, height: SIDE });
    show(shown, Uint8Array.from(atob(image), (byte) => byte.charCodeAt(0)));
    picture = start = { shown, data: shown.getContext("2d").getImageData(0, 0, SIDE, SIDE) };
  }

  // Return the URL of an IDX file of bytes.
  function idx(shape, bytes) {
    const header = new DataView(new ArrayBuffer(4 + 4 * shape.length));
    header.setUint32(0, 0x800 + shape.length);
    shape.forEach((size, i) => header.setUint32(4 + 4 * i, size));
    // For another type browsers would add a suffix to the name of the file.
    return URL.createObjectURL(new Blob([header, ...bytes], { type: "application/octet-stream" }));
  }

  function list() {
    const count = kept.length;
    part("kept").textContent = count ? `Kept: ${count}. They are lost when this page is closed.` : "";
    part("forget").hidden = part("files").hidden = !count;
    part("list").replaceChildren(
      ...kept.map(([image, label]) => {
        const figure = make("figure");
        const attributes = { width: SIDE, height: SIDE, className: "ink", role: "img" };
        attributes.ariaLabel = `A kept ${names[label]}`;
        const target = make("canvas", "", attributes);
        show(target, image);
        figure.append(target, make("figcaption", names[label]));
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
  const grids = program.layers.flatMap(({ kind, name }, i) => {
    if (kind !== "Conv2D") return [];
    const target = make("div", "", { className: "maps ink", role: "img" });
    target.ariaLabel = `Activations of the filters of ${name}, one square each`;
    part("layers").append(make("h3", name), target);
    return [[target, i]];
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
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [((clientX - left) / width) * canvas.width, ((clientY - top) / height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button) return;
    if (picture) clear();
    canvas.setPointerCapture(event.pointerId);
    strokes.push([place(event)]);
    soon();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !canvas.hasPointerCapture(event.pointerId)) return;
    strokes[strokes.length - 1].push(...event.getCoalescedEvents().map(place), place(event));
    soon();
  });
  canvas.addEventListener("lostpointercapture", say);
  canvas.addEventListener("keydown", (event) => {
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
  if (example) begin(example);
  say();
})();
