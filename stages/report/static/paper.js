// Tell ink from paper and from its lines: steps 1 to 6 of stages/views/handwriting/__init__.py. A
// picture being worked on is {v, w, h}: its values, row by row, its width and height; where
// something is, is a picture of 1 and 0. The values are integers.
"use strict";

// As in paper.py.
const [LARGEST, FAINTEST] = [320, 24];
// As in lines.py.
const [STEP, MISSING, SLENDER, VISIBLE] = [100, 32, 25, 8];

// Return the picture of these sizes whose values `value` tells.
function paint(w, h, value) {
  const v = new Int32Array(w * h);
  for (let y = 0, i = 0; y < h; y++) for (let x = 0; x < w; x++, i++) v[i] = value(x, y, i);
  return { v, w, h };
}

function transposed({ v, w, h }) {
  return paint(h, w, (x, y) => v[x * w + y]);
}

function clip(n, least, most) {
  return Math.min(Math.max(n, least), most);
}

// Return the highest of what `value` makes of each item.
function mostOf(items, value) {
  return items.reduce((most, item) => Math.max(most, value(item)), 0);
}

// Return how much darker than the paper each pixel is, or null if the picture is blank.
function findInk(image) {
  for (const paper of [255, 0]) {
    const ink = darkness(toGrey(image, paper));
    if (ink && strongest(ink) >= FAINTEST) return ink;
  }
  return null;
}

// Return the ink that only one pixel in a thousand exceeds.
function strongest({ v }) {
  const counts = new Int32Array(256);
  v.forEach((n) => counts[n]++);
  let [above, n] = [Math.floor(v.length / 1000), 255];
  while (counts[n] <= above) above -= counts[n--];
  return n;
}

// Steps 1 and 2.
function toGrey({ data, width, height }, paper) {
  const k = Math.ceil(Math.max(width, height) / LARGEST);
  const [w, h] = [Math.floor(width / k), Math.floor(height / k)];
  const sums = new Int32Array(w * h);
  for (let y = 0; y < h * k; y++)
    for (let x = 0; x < w * k; x++) {
      const i = 4 * (y * width + x);
      const colour = 299 * data[i] + 587 * data[i + 1] + 114 * data[i + 2];
      const grey = colour * data[i + 3] + 1000 * paper * (255 - data[i + 3]);
      sums[Math.floor(y / k) * w + Math.floor(x / k)] += Math.floor((grey + 127500) / 255000);
    }
  const half = Math.floor((k * k) / 2);
  return { v: sums.map((sum) => Math.floor((sum + half) / (k * k))), w, h };
}

// Steps 3 and 4; null without room for a window.
function darkness({ v, w, h }) {
  const reach = Math.min(Math.floor(Math.max(w, h) / 6), Math.floor((Math.min(w, h) - 1) / 2));
  if (reach < 1) return null;
  const around = surrounded({ v, w, h }, 2 * reach);
  const [high, low] = [highest(around, reach), lowest(around, reach)];
  // Without what is narrower than the window and darker, or lighter; edges stay as they are.
  const [light, dark] = [lowest(high, reach).v, highest(low, reach).v];
  const strokes = { v: light.map((n, i) => n - dark[i]), w, h };
  const contrast = highest(framed(strokes, reach), reach).v;
  const most = mostOf(contrast, (n) => n);
  let darker = 0;
  for (let y = 0, i = 0; y < h; y++)
    for (let x = 0; x < w; x++, i++) {
      const middle = high.v[(y + reach) * high.w + x + reach] + low.v[(y + reach) * low.w + x + reach];
      if (2 * contrast[i] > most) darker += Math.sign(middle - 2 * v[i]);
    }
  const ink = darker > 0 ? (n, i) => n - dark[i] : (n, i) => light[i] - n;
  return { v: v.map((n, i) => Math.max(ink(n, i), 0)), w, h };
}

// Return the picture with `margin` pixels more on each side, turned about its outermost pixels.
function surrounded(picture, margin) {
  const { v, w, h } = surroundedAlong(surroundedAlong(picture, margin), margin);
  return { v: v.map((grey) => clip(grey, 0, 255)), w, h };
}

// Return the same for the ends of the rows, rows and columns exchanged.
function surroundedAlong({ v, w, h }, margin) {
  const result = { v: new Int32Array((w + 2 * margin) * h), w: h, h: w + 2 * margin };
  for (let y = 0; y < h; y++) {
    const row = v.subarray(y * w, (y + 1) * w);
    const place = (x) => (x + margin) * h + y;
    for (let x = 0; x < w; x++) result.v[place(x)] = row[x];
    for (let i = 1; i <= margin; i++) {
      result.v[place(-i)] = 2 * row[0] - row[i];
      result.v[place(w - 1 + i)] = 2 * row[w - 1] - row[w - 1 - i];
    }
  }
  return result;
}

// Return the picture with `margin` pixels of 0 more on each side.
function framed({ v, w, h }, margin) {
  const wider = w + 2 * margin;
  const result = { v: new Int32Array(wider * (h + 2 * margin)), w: wider, h: h + 2 * margin };
  for (let y = 0; y < h; y++)
    result.v.set(v.subarray(y * w, (y + 1) * w), (y + margin) * wider + margin);
  return result;
}

function inverted(picture) {
  const v = picture.v.slice();
  for (let i = 0; i < v.length; i++) v[i] = 255 - v[i];
  return { ...picture, v };
}

// Return the highest in each whole square window, one that reaches so far each way.
function highest(picture, reach) {
  return highestAlong(highestAlong(picture, reach), reach);
}

// Return the lowest there.
function lowest(picture, reach) {
  return inverted(highest(inverted(picture), reach));
}

// Return the highest in each whole window of a row, rows and columns exchanged.
//
// Source: M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular and
// octagonal kernels, Pattern Recognition Letters 13 (1992), 517-521.
function highestAlong({ v, w, h }, reach) {
  const size = 2 * reach + 1;
  const result = { v: new Int32Array((w - 2 * reach) * h), w: h, h: w - 2 * reach };
  const [before, after] = [new Int32Array(w), new Int32Array(w)];
  for (let y = 0; y < h; y++) {
    const row = v.subarray(y * w, (y + 1) * w);
    // In each stretch of `size`: the highest from its start up to a place, from there to its end.
    for (let start = 0; start < w; start += size) {
      const end = Math.min(start + size, w);
      before[start] = row[start];
      for (let x = start + 1; x < end; x++) before[x] = Math.max(before[x - 1], row[x]);
      after[end - 1] = row[end - 1];
      for (let x = end - 2; x >= start; x--) after[x] = Math.max(after[x + 1], row[x]);
    }
    for (let x = 0; x < result.h; x++)
      result.v[x * h + y] = Math.max(after[x], before[x + size - 1]);
  }
  return result;
}

// Step 6.
function stretched({ v, w, h }) {
  const most = Math.max(strongest({ v }), 1);
  const stretch = (n) => Math.floor(((4 * n - most) * 255) / (2 * most));
  return { v: v.map((n) => clip(stretch(n), 0, 255)), w, h };
}

// Return where lines from border to border are, as 1 and 0.
function findLines(ink) {
  const [turned, most] = [transposed(ink), strongest(ink)];
  const [flat, upright] = [thinIn(ink, most), thinIn(turned, most)];
  const across = transposed(upright).v;
  const passable = paint(ink.w, ink.h, (x, y, i) => flat.v[i] | across[i] | (2 * ink.v[i] > most));
  const found = linesAcross(ink, flat, passable).v;
  const down = transposed(linesAcross(turned, upright, transposed(passable))).v;
  return found.map((n, i) => n | down[i]);
}

// Return where there is ink that is not high.
function thinIn(ink, most) {
  const reach = Math.floor(Math.floor(Math.max(ink.w, ink.h) / SLENDER) / 2);
  const lows = inverted(highestUpright(inverted(ink), reach));
  const opened = highestUpright(lows, reach).v;
  return paint(ink.w, ink.h, (x, y, i) => VISIBLE * (ink.v[i] - opened[i]) > most);
}

// Return the highest in each upright window; beyond its ends a column goes on as it ends.
function highestUpright(picture, reach) {
  const { v, w, h } = transposed(picture);
  const longer = { v: new Int32Array((w + 2 * reach) * h), w: w + 2 * reach, h };
  for (let y = 0; y < h; y++) {
    const [from, to] = [y * w, y * longer.w + reach];
    longer.v.fill(v[from], to - reach, to);
    longer.v.set(v.subarray(from, from + w), to);
    longer.v.fill(v[from + w - 1], to + w, to + w + reach);
  }
  return highestAlong(longer, reach);
}

// Return where lines from the left to the right border are. They can be where `visible` is, and
// paths go on where `passable` is.
function linesAcross(ink, visible, passable) {
  const { w, h } = ink;
  const step = 1 + Math.floor(w / STEP);
  const places = Math.ceil(w / step);
  const filled = { v: new Int32Array(places * h), w: places, h };
  passable.v.forEach((n, i) => {
    if (n) filled.v[Math.floor(i / w) * places + Math.floor((i % w) / step)] = 1;
  });
  const missing = Math.floor(places / MISSING);
  const cells = paint(places, h, (x, y, i) => {
    if (x < missing || x >= places - missing) return 1;
    const isGap = x > 0 && x < places - 1 && filled.v[i - 1] && filled.v[i + 1];
    return filled.v[i] || isGap;
  });
  const found = new Int32Array(w * h);
  const whole = wholePaths(cells).v;
  if (!whole.includes(1)) return { v: found, w, h };
  const onPath = (x, y) => whole[y * places + Math.floor(x / step)];
  const paths = paint(w, h, (x, y, i) => passable.v[i] && onPath(x, y));
  const thickness = runHeights(visible).v;
  for (const path of connected(paths)) {
    const line = path.filter((i) => visible.v[i]);
    // At each column, so that strokes that cross the line do not outweigh it.
    const [thinnest, darkest] = [new Map(), new Map()];
    for (const i of line) {
      const x = i % w;
      thinnest.set(x, Math.min(thinnest.get(x) ?? h, thickness[i]));
      darkest.set(x, Math.max(darkest.get(x) ?? 0, ink.v[i]));
    }
    if (2 * thinnest.size < w) continue;
    const [thick, tone] = [usual(thinnest.values()), usual(darkest.values())];
    if (SLENDER * thick > Math.max(w, h)) continue;
    for (const i of line) found[i] = thickness[i] <= 2 * thick + 1 && 2 * ink.v[i] <= 3 * tone;
  }
  return { v: found, w, h };
}

// Return the value that three in ten do not reach: strokes lie along the line, too.
function usual(values) {
  const sorted = Int32Array.from(values).sort();
  return sorted[Math.floor((sorted.length * 3) / 10)];
}

// Return which cells lie on a path from the first to the last column; from column to column a path
// goes on in the same row or in the next one, up or down.
function wholePaths({ v, w, h }) {
  const reach = (first, step) => {
    const reached = v.slice();
    for (let n = 1, x = first + step; n < w; n++, x += step)
      for (let y = 0; y < h; y++) {
        const before = y * w + x - step;
        // Beyond the picture it is undefined, which counts as 0.
        reached[before + step] &= reached[before - w] | reached[before] | reached[before + w];
      }
    return reached;
  };
  const [forth, back] = [reach(0, 1), reach(w - 1, -1)];
  return { v: forth.map((n, i) => n & back[i]), w, h };
}

// Return the height of the upright run of 1 that each pixel lies in.
function runHeights({ v, w, h }) {
  const heights = new Int32Array(w * h);
  for (let x = 0; x < w; x++)
    for (let y = 0, end = 0; y < h; y = end + 1) {
      for (end = y; end < h && v[end * w + x]; ) end++;
      for (let row = y; row < end; row++) heights[row * w + x] = end - y;
    }
  return { v: heights, w, h };
}

// Return the places of the pixels of each region: those that touch, be it at a corner.
function connected(present) {
  const [left, regions] = [present.v.slice(), []];
  for (let i = 0; i < left.length; i++) {
    if (!left[i]) continue;
    const region = [i];
    left[i] = 0;
    for (const at of region)
      aroundEach(at, present, (near) => {
        if (left[near]) region.push(near);
        left[near] = 0;
      });
    regions.push(region);
  }
  return regions;
}

// Call `act` with the place of a pixel and with those of the ones around it.
function aroundEach(at, { w, h }, act) {
  const [x, y] = [at % w, Math.floor(at / w)];
  for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, h - 1); row++)
    for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, w - 1); column++)
      act(row * w + column);
}
