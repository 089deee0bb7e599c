// The canvas to draw digits on, what they are read as, and the digits kept for training.
"use strict";

(() => {
  const part = (id) => document.getElementById(id);
  const { names, example, novelty, ...packed } = JSON.parse(part("network").textContent);
  const program = load(packed);
  // Numbers are read if each class is one character; else all the ink is one thing.
  const areCharacters = names.every((name) => [...name].length === 1);
  const noun = names.every((name) => /^[0-9]$/.test(name)) ? "digit" : "character";
  const canvas = part("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  // The most pixels that a picture may have.
  const MAX_PIXELS = 50_000_000;
  // Below this confidence an answer is a guess, as in predict.py.
  const SURE = 0.3;

  let strokes = []; // each a list of points, in pixels of the canvas
  let picture = null; // dropped, pasted or opened: { shown: its bitmap, data: its pixels }
  let start = null; // the picture that the page opens with
  let replaced = null; // the picture that strokes took the place of
  let glyphs = []; // what is read
  let whole = null; // the image of all the ink as one digit
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

  // Return the glyph of an image, with the activations of the layers.
  function classify(image) {
    const activations = run(program, image, SIDE, SIDE);
    const probabilities = activations[activations.length - 1].x;
    const familiarity = novelty ? familiarityOf(activations[novelty.layer].x, novelty) : 1;
    return { image, activations, probabilities, familiarity };
  }

  // Return what is on the canvas, as `readPieces` does.
  function find() {
    whole = null;
    if (!picture && !strokes.length) return [];
    const drawn = picture ? picture.data : pen.getImageData(0, 0, canvas.width, canvas.height);
    const pieces = findPieces(drawn);
    const rows = areCharacters ? readPieces(pieces, classify) : [];
    if (!pieces.length || rows.crowded) return rows;
    whole = normalise(join(pieces));
    return areCharacters ? rows : [[classify(whole)]];
  }

  // Return the label of the most probable class.
  function best({ probabilities }) {
    return probabilities.indexOf(Math.max(...probabilities));
  }

  // Update the page for what is on the canvas; return what that is.
  function read() {
    redraw();
    const found = find();
    glyphs = found.crowded ? [] : found.flat();
    const first = glyphs[0] || blank;
    show(part("seen"), whole || blank.image);
    bars.forEach(([bar, number], i) => {
      // The last one is for what is in no class.
      const isClass = i < names.length;
      const score = isClass ? first.probabilities[i] * first.familiarity : 1 - first.familiarity;
      bar.style.width = glyphs.length ? `${100 * score}%` : 0;
      number.textContent = glyphs.length ? percent(score) : "";
    });
    grids.forEach(([target, i]) => showFilters(target, first.activations[i]));
    showGlyphs(glyphs.length > 1 ? found : []);
    // A test image must not become a training image.
    part("keep").disabled = !whole || (picture !== null && picture === start);
    return found;
  }

  // Scroll the bars, which may be many, to that of a label.
  function reveal(label) {
    const row = bars[label][0].closest("tr");
    const box = row.closest(".scroll");
    box.scrollTop = row.offsetTop - box.clientHeight / 2;
  }

  // Show rows of glyphs with their confidence in place of the only one.
  function showGlyphs(rows) {
    part("one").hidden = rows.length > 0;
    part("which").hidden = !rows.length;
    part("glyphs").replaceChildren(
      ...rows.map((row) => {
        const target = make("div", "", { className: "glyphs" });
        target.append(
          ...row.map((glyph) => {
            const name = names[best(glyph)];
            const caption = `${name} ${percent(confidence(glyph))}`;
            return captioned(glyph.image, caption, `Read as ${name}`);
          }),
        );
        return target;
      }),
    );
  }

  // Return a figure of an image.
  function captioned(image, caption, ariaLabel) {
    const attributes = { width: SIDE, height: SIDE, className: "ink", role: "img", ariaLabel };
    const [figure, target] = [make("figure"), make("canvas", "", attributes)];
    show(target, image);
    figure.append(target, make("figcaption", caption));
    return figure;
  }

  // Announce what is read; not during a stroke, or a screen reader would repeat itself.
  function say() {
    const found = read();
    if (glyphs.length) {
      part("truth").value = best(glyphs[0]);
      reveal(best(glyphs[0]));
    }
    part("answer").textContent = glyphs.length ? reading(found) : problem(found);
  }

  function problem({ crowded }) {
    if (crowded)
      return (
        `There are ${crowded} pieces of ink here, more than ${MOST_PIECES}: ` +
        "crop the picture to one number."
      );
    if (picture) return "There is nothing to see on this picture.";
    return strokes.length ? "There is too little ink." : "Nothing is drawn yet.";
  }

  function reading(rows) {
    const text = rows.map((row) => row.map((glyph) => names[best(glyph)]).join(" ")).join(" / ");
    const least = Math.min(...glyphs.map(confidence));
    if (least < SURE) {
      if (!areCharacters) return `Not sure: most likely ${text}.`;
      if (glyphs.length > 1) return `Not sure that all of these are ${noun}s: ${text}.`;
      return `Not sure this is a ${noun}; if it is one, then most likely ${text}.`;
    }
    const sure = `with ${percent(least)} confidence`;
    if (glyphs.length === 1) return `It reads ${text}, ${sure}.`;
    return `This looks like ${glyphs.length} ${noun}s: ${text}, ${sure}.`;
  }

  // Show the activations of a layer, a canvas per filter, on one scale.
  function showFilters(target, { h, w, c, x }) {
    for (let i = target.children.length; i < c; i++)
      target.append(make("canvas", "", { width: w, height: h, title: `Filter ${i}` }));
    const most = glyphs.length ? x.reduce((a, b) => Math.max(a, b), 1e-9) : Infinity;
    [...target.children].forEach((map, filter) => {
      const numbers = new Uint8Array(h * w);
      for (let i = 0; i < h * w; i++) numbers[i] = Math.max((255 * x[i * c + filter]) / most, 0);
      show(map, numbers);
    });
  }

  function clear() {
    [strokes, picture, replaced] = [[], null, null];
    say();
  }

  function undo() {
    if (picture) return clear();
    strokes.pop();
    if (!strokes.length) [picture, replaced] = [replaced, null];
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
    [strokes, replaced] = [[], null];
    picture = { shown, data: context.getImageData(0, 0, w, h) };
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
      ...kept.map(([image, label]) => captioned(image, names[label], `A kept ${names[label]}`)),
    );
    for (const id of ["images", "labels"]) URL.revokeObjectURL(part(id).href);
    part("images").href = idx([count, SIDE, SIDE], kept.map(([image]) => image));
    part("labels").href = idx([count], [Uint8Array.from(kept, ([, label]) => label)]);
  }

  part("truth").append(...names.map((name, label) => make("option", name, { value: label })));
  const bars = (novelty ? [...names, "none of these"] : names).map((name) => {
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
    if (picture) [picture, replaced] = [null, picture];
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
    kept.push([whole, Number(part("truth").value)]);
    list();
  });
  part("forget").addEventListener("click", () => {
    kept.pop();
    list();
  });
  const blank = classify(new Uint8Array(SIDE * SIDE));
  if (example) begin(example);
  say();
})();
