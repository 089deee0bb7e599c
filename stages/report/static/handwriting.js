// Tell which ink is the digits', and make each like one of MNIST's: steps 7 to 11 of
// stages/views/handwriting/__init__.py. Pictures are as in paper.js, pieces as `piece` makes them.
"use strict";

// As in pieces.py and normalise.py.
const [STRONG, FADING, SIDE, INNER] = [96, 50, 28, 20];

// Return the pieces of ink that are the digits', none if the picture, as ImageData, is blank.
function findPieces(image) {
  const ink = findInk(image);
  if (!ink) return [];
  const lines = findLines(ink);
  if (lines.includes(1)) {
    const kept = digitsOf({ ...ink, v: ink.v.map((n, i) => (lines[i] ? 0 : n)) });
    const heaviest = mostOf(kept, ({ mass }) => mass);
    const main = kept.find(({ mass }) => mass === heaviest);
    if (main && 5 * Math.max(main.width, main.height) < 4 * Math.max(ink.w, ink.h))
      return kept;
  }
  return digitsOf(ink);
}

// Return the pieces that are the digits', as heavy others are dropped (steps 6 to 8).
function digitsOf(ink) {
  while (strongest(ink) >= FAINTEST) {
    const found = piecesOf(stretched(ink));
    const kept = selected(found, ink);
    const heaviest = mostOf(kept, ({ mass }) => mass);
    const dropped = found.filter((p) => 2 * p.mass >= heaviest && !kept.includes(p));
    if (!dropped.length) return kept;
    ink = { ...ink, v: ink.v.slice() };
    for (const { x, y } of dropped) x.forEach((column, i) => (ink.v[y[i] * ink.w + column] = 0));
  }
  return [];
}

// Step 7.
function piecesOf(ink) {
  const strong = paint(ink.w, ink.h, (x, y, i) => ink.v[i] >= STRONG);
  const faint = paint(ink.w, ink.h, (x, y, i) => ink.v[i] > 0 && ink.v[i] < STRONG);
  const label = new Int32Array(ink.v.length);
  connected(strong).forEach((region, i) => region.forEach((at) => (label[at] = i + 1)));
  const kept = spread(strong, ink, 1 + Math.floor(Math.max(ink.w, ink.h) / FADING));
  for (const region of connected(faint)) {
    const beside = new Set();
    for (const at of region)
      aroundEach(at, ink, (near) => {
        if (label[near]) beside.add(label[near]);
      });
    if (beside.size === 1 && !isAtBorder(pieceAt(region, ink), ink))
      for (const at of region) kept.v[at] = 1;
  }
  return connected(kept).map((region) => pieceAt(region, ink));
}

// Return what is present, with the pixels `within` that are so many steps away, at most.
function spread(present, within, times) {
  const v = present.v.slice();
  let edge = [];
  v.forEach((n, i) => n && edge.push(i));
  for (let step = 0; step < times; step++) {
    const next = [];
    for (const at of edge)
      aroundEach(at, present, (near) => {
        if (!within.v[near] || v[near]) return;
        v[near] = 1;
        next.push(near);
      });
    edge = next;
  }
  return { ...present, v };
}

// Step 8.
function selected(pieces, picture) {
  const mass = (p) => p.mass;
  const inside = pieces.filter((p) => !isAtBorder(p, picture));
  if (inside.length && 10 * mostOf(inside, mass) >= mostOf(pieces, mass)) pieces = inside;
  pieces = pieces.filter((p) => !isFrame(p, pieces));
  const heaviest = mostOf(pieces, mass);
  return pieces.filter((p) => 20 * p.mass >= heaviest);
}

function isAtBorder({ left, right, top, bottom }, { w, h }) {
  return top === 0 || left === 0 || bottom === h || right === w;
}

// Return whether a piece has ink in all four corners of its box, and another piece inside.
function isFrame(frame, pieces) {
  const high = 1 + Math.floor(frame.height / 8);
  const wide = 1 + Math.floor(frame.width / 8);
  const corners = new Set();
  frame.x.forEach((x, i) => {
    const y = frame.y[i];
    for (const [row, isRow] of [y < frame.top + high, y >= frame.bottom - high].entries())
      for (const [column, isColumn] of [x < frame.left + wide, x >= frame.right - wide].entries())
        if (isRow && isColumn) corners.add(2 * row + column);
  });
  return (
    corners.size === 4 &&
    pieces.some(
      (p) =>
        p.top > frame.top &&
        p.left > frame.left &&
        p.bottom < frame.bottom &&
        p.right < frame.right &&
        10 * p.mass >= frame.mass,
    )
  );
}

// Return the piece of pixels: where they are, their ink and the box around them.
function piece(x, y, ink) {
  let [left, right, top, bottom, mass] = [Infinity, 0, Infinity, 0, 0];
  for (let i = 0; i < x.length; i++) {
    [left, right] = [Math.min(left, x[i]), Math.max(right, x[i] + 1)];
    [top, bottom] = [Math.min(top, y[i]), Math.max(bottom, y[i] + 1)];
    mass += ink[i];
  }
  return { x, y, ink, left, right, top, bottom, width: right - left, height: bottom - top, mass };
}

// Return the piece of the pixels at these places of a picture.
function pieceAt(places, { v, w }) {
  const [x, y] = [places.map((i) => i % w), places.map((i) => Math.floor(i / w))];
  return piece(x, y, places.map((i) => v[i]));
}

// Return one piece of all their pixels.
function join(pieces) {
  return piece(...["x", "y", "ink"].map((key) => [].concat(...pieces.map((p) => p[key]))));
}

// Return the digit that a piece is, 28 x 28 pixels, 0 where there is no ink (steps 9 to 11).
function normalise({ x, y, ink, left, top, width, height }) {
  const box = { v: new Int32Array(width * height), w: width, h: height };
  x.forEach((column, i) => (box.v[(y[i] - top) * width + column - left] = ink[i]));
  return centred(scaled(box));
}

// Steps 9 and 10.
function scaled({ v, w, h }) {
  const longer = Math.max(w, h);
  const size = (n) => Math.max(1, Math.floor((2 * INNER * n + longer) / (2 * longer)));
  const [rows, columns] = [coverage(h, size(h)), coverage(w, size(w))];
  const sums = rows.flatMap((row) =>
    columns.map((column) => {
      let sum = 0;
      for (const [i, tall] of row)
        for (const [j, wide] of column) sum += tall * wide * v[i * w + j];
      return sum;
    }),
  );
  const brightest = mostOf(sums, (sum) => sum);
  const digit = sums.map((sum) => Math.floor((255 * sum) / brightest + 0.5));
  return { v: digit, w: columns.length, h: rows.length };
}

// Return for each of `after` new pixels the old ones in it, and how much it covers of each.
function coverage(before, after) {
  return Array.from({ length: after }, (_, i) => {
    const [first, last] = [(i * before) / after, ((i + 1) * before) / after];
    const found = [];
    for (let j = Math.floor(first); j < last; j++)
      found.push([j, Math.min(last, j + 1) - Math.max(first, j)]);
    return found;
  });
}

// Step 11.
function centred({ v, w, h }) {
  const mass = v.reduce((a, b) => a + b);
  const middle = (where) => v.reduce((sum, n, i) => sum + n * where(i), 0) / mass;
  const place = (m, n) => clip(Math.floor(14.4 - m), 0, SIDE - n);
  const left = place(middle((i) => i % w), w);
  const top = place(middle((i) => Math.floor(i / w)), h);
  const pixels = new Uint8Array(SIDE * SIDE);
  v.forEach((n, i) => (pixels[(top + Math.floor(i / w)) * SIDE + left + (i % w)] = n));
  return pixels;
}
