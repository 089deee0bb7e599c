// Read the digits that pieces of ink are: steps 12 to 15 of stages/views/handwriting/__init__.py.
// A piece is as `piece` of handwriting.js makes it, a part is {piece, isCut}: whether it is cut on
// its left side. A glyph is {image, probabilities, familiarity}.
"use strict";

// As in reading.py.
const MOST_PIECES = 30;
const [DIGIT, CUT, JOIN, GAP, WIDE] = [0.3, 1.5, 1.5, 4, 2];
const [MOST_CUTS, MOST_JOINED, UNFAMILIAR] = [3, 5, 0.3];

// Return the glyphs of each row, in reading order, that pieces of ink are; or {crowded: how many
// pieces there are}. `classify` makes a glyph of an image.
function readPieces(found, classify) {
  if (found.length > MOST_PIECES) return { crowded: found.length };
  return rowsOf(found).map((row) => readRow(partsOf(row), classify));
}

function confidence({ probabilities, familiarity }) {
  return Math.max(...probabilities) * familiarity;
}

// Step 15: return how much features are like those of the images that the network has learnt from.
function familiarityOf(features, { prototypes, thresholds }) {
  const scale = mostOf(features, Math.abs);
  if (!scale) return 0;
  const rounded = Array.from(features, (n) => roundToEven((127 * n) / scale));
  const length = Math.sqrt(dot(rounded, rounded));
  const similarity = (p) => dot(rounded, p) / (length * Math.sqrt(dot(p, p)));
  const best = Math.max(...prototypes.map(similarity));
  return thresholds.filter((threshold) => best > threshold).length / thresholds.length;
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

// Round, halves to the even number.
function roundToEven(n) {
  return Math.abs(n) % 1 === 0.5 ? 2 * Math.round(n / 2) : Math.round(n);
}

// Return how many columns two pieces have in common; below 0, the gap between.
function commonColumns(a, b) {
  return Math.min(a.right, b.right) - Math.max(a.left, b.left);
}

function commonRows(a, b) {
  return Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
}

function distance(p, q) {
  return Math.max(-commonColumns(p, q), -commonRows(p, q), 0);
}

// Return whether one of the pieces is above the other: of the narrower, half the columns.
function isAbove(p, q) {
  return (
    2 * commonColumns(p, q) >= Math.min(p.width, q.width) &&
    2 * commonRows(p, q) <= Math.min(p.height, q.height)
  );
}

// Return the first item of the lowest value.
function leastOf(items, value) {
  return items.reduce((least, item) => (value(item) < value(least) ? item : least));
}

// Step 12: return the pieces of each row, from the top.
function rowsOf(found) {
  const rows = [];
  const longest = mostOf(found, (p) => Math.max(p.height, Math.floor(p.width / 2)));
  for (const p of [...found].sort((a, b) => b.height - a.height)) {
    const far = (row) => Math.min(...row.map((q) => distance(p, q)));
    const row = rows.find((row) => isIn(p, row, longest));
    if (row) row.push(p);
    else if (2 * p.height >= longest || !rows.length) rows.push([p]);
    else {
      const near = leastOf(rows, far);
      if (4 * far(near) <= longest) near.push(p);
    }
  }
  const top = (row) => Math.min(...row.map((p) => p.top));
  return rows.sort((a, b) => top(a) - top(b));
}

// Return whether a piece is beside the highest of a row, or right above or below one of it.
function isIn(p, row, longest) {
  return (
    2 * commonRows(row[0], p) >= p.height ||
    row.some((q) => isAbove(p, q) && -8 * commonRows(p, q) < longest)
  );
}

// Step 13: return the parts of a row, from the left.
function partsOf(row) {
  const height = mostOf(row, (p) => p.height);
  const isSmall = (p) => 2 * p.height < height;
  const joined = [];
  for (const p of [...row].sort((a, b) => isSmall(a) - isSmall(b) || a.left - b.left)) {
    if (isSmall(p)) {
      const i = leastOf([...joined.keys()], (i) => distance(joined[i], p));
      if (3 * distance(joined[i], p) <= height) joined[i] = join([joined[i], p]);
    } else {
      const i = joined.findIndex((q) => isAbove(p, q));
      if (i < 0) joined.push(p);
      else joined[i] = join([joined[i], p]);
    }
  }
  return joined.sort((a, b) => a.left - b.left).flatMap((p) => cut(p, height));
}

// Return the parts of a piece, cut where it has least ink if it is wide.
function cut(p, height) {
  let cuts = [];
  if (10 * p.width > 9 * height) {
    const counts = new Int32Array(p.width);
    for (const x of p.x) counts[x - p.left]++;
    const step = Math.max(2, Math.floor((height * 3) / 20));
    for (let x = step; x < p.width - step; x++) {
      const isLeast = counts[x] === Math.min(...counts.subarray(x - step, x + step + 1));
      const isApart = !cuts.length || x - cuts[cuts.length - 1] > step;
      if (isLeast && 2 * counts[x] <= height && isApart) cuts.push(x);
    }
    cuts = cuts.sort((a, b) => counts[a] - counts[b] || a - b).slice(0, MOST_CUTS);
  }
  const ends = [0, ...cuts.sort((a, b) => a - b), p.width];
  return ends.slice(1).flatMap((end, i) => {
    const isWithin = (_, j) => p.x[j] >= p.left + ends[i] && p.x[j] < p.left + end;
    const within = [p.x, p.y, p.ink].map((values) => values.filter(isWithin));
    return within[0].length ? [{ piece: piece(...within), isCut: i > 0 }] : [];
  });
}

// Step 14: return the glyphs of the least cost that the parts can be joined to.
function readRow(parts, classify) {
  const height = mostOf(parts, (part) => part.piece.height);
  // The least cost of the parts up to each end.
  const best = [{ cost: 0, glyphs: [] }];
  for (let end = 1; end <= parts.length; end++) {
    best[end] = { cost: Infinity, glyphs: [] };
    for (let start = Math.max(0, end - MOST_JOINED); start < end; start++) {
      const isCut = parts[start].isCut || (end < parts.length && parts[end].isCut);
      const option = glyphOf(parts.slice(start, end), isCut, height, classify);
      if (!option) continue;
      const cost = best[start].cost + option.cost;
      const glyphs = [...best[start].glyphs, option.glyph];
      if (cost < best[end].cost) best[end] = { cost, glyphs };
    }
  }
  return best[parts.length].glyphs;
}

// Return the glyph that parts are, and its cost; null if they cannot be one.
function glyphOf(parts, isCut, height, classify) {
  // Of each two neighbours that are not one piece cut.
  const joins = parts.flatMap(({ piece, isCut }, i) =>
    i > 0 && !isCut ? [[parts[i - 1].piece, piece]] : [],
  );
  const p = join(parts.map((part) => part.piece));
  const isFar = joins.some(([a, b]) => -10 * commonColumns(a, b) > 3 * height);
  if (joins.length && (10 * p.width > 14 * height || isFar)) return null;
  const glyph = classify(normalise(p));
  // To be joined well is to be probable, then familiar: some people's digits are not familiar.
  const likelihood = Math.max(...glyph.probabilities) * Math.max(glyph.familiarity, UNFAMILIAR);
  if (isCut && (likelihood < 0.5 || 2 * p.height < height)) return null;
  let cost = DIGIT - Math.log(likelihood) + CUT * parts[0].isCut;
  cost += WIDE * Math.max(0, p.width / height - 1);
  return { glyph, cost: joins.reduce((sum, [a, b]) => sum + joinCost(a, b, height), cost) };
}

// Return what a join costs: more across a gap, less the more columns are those of both.
function joinCost(a, b, height) {
  const shared = commonColumns(a, b);
  if (shared < 0) return JOIN - (GAP * shared) / height;
  return JOIN * (1 - shared / Math.min(a.width, b.width));
}
