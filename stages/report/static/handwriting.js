// Make a picture of one digit look like MNIST's: the steps that stages/views/handwriting.py describes.
// A picture being worked on is {v, w, h}: its values, row by row, its width and height.
"use strict";

const [SIDE, INNER, LARGEST, FAINTEST] = [28, 20, 200, 24];

// Return 28 x 28 pixels, 0 to 255, of a picture as ImageData, or null if it is blank.
function handwriting(picture) {
  for (const paper of [255, 0]) {
    const ink = findInk(toGrey(picture, paper));
    if (ink) return centred(scaled(cropped(withoutSpecks(ink))));
  }
  return null;
}

// Steps 1 and 2.
function toGrey({ data, width, height }, paper) {
  const k = Math.ceil(Math.max(width, height) / LARGEST);
  const [w, h] = [Math.floor(width / k), Math.floor(height / k)];
  const sums = new Float64Array(w * h);
  for (let y = 0; y < h * k; y++)
    for (let x = 0; x < w * k; x++) {
      const i = 4 * (y * width + x);
      const colour = 299 * data[i] + 587 * data[i + 1] + 114 * data[i + 2];
      const grey = colour * data[i + 3] + 1000 * paper * (255 - data[i + 3]);
      sums[Math.floor(y / k) * w + Math.floor(x / k)] += Math.floor((grey + 127500) / 255000);
    }
  const half = (k * k) >> 1;
  return { v: sums.map((sum) => Math.floor((sum + half) / (k * k))), w, h };
}

// Steps 3 to 5; null if there is too little ink.
function findInk({ v, w, h }) {
  const reach = Math.min(Math.floor(Math.max(w, h) / 6), (Math.min(w, h) - 1) >> 1);
  if (reach < 1) return null;
  const around = surrounded({ v, w, h }, 2 * reach);
  let [high, low] = [slide(around, reach, Math.max), slide(around, reach, Math.min)];
  const at = (i) => (Math.floor(i / w) + reach) * high.w + (i % w) + reach;
  const contrast = v.map((_, i) => high.v[at(i)] - low.v[at(i)]);
  const most = contrast.reduce((a, b) => Math.max(a, b));
  let darker = 0;
  for (let i = 0; i < v.length; i++)
    if (2 * contrast[i] > most) darker += Math.sign(high.v[at(i)] + low.v[at(i)] - 2 * v[i]);
  if (darker > 0) {
    v = v.map((grey) => 255 - grey);
    high = { ...low, v: low.v.map((grey) => 255 - grey) };
  }
  const paper = slide(high, reach, Math.min).v;
  const ink = v.map((grey, i) => Math.max(paper[i] - grey, 0));
  const strongest = ink.slice().sort()[ink.length - 1 - Math.floor(ink.length / 1000)];
  if (strongest < FAINTEST) return null;
  const stretch = (n) => Math.floor(((4 * n - strongest) * 255) / (2 * strongest));
  return { v: ink.map((n) => Math.min(Math.max(stretch(n), 0), 255)), w, h };
}

// Return the picture with `margin` pixels more on each side, turned about its outermost pixels.
function surrounded({ v, w, h }, margin) {
  const turned = (get, i, n) => {
    if (i < 0) return 2 * get(0) - get(-i);
    return i < n ? get(i) : 2 * get(n - 1) - get(2 * n - 2 - i);
  };
  const [across, down] = [w + 2 * margin, h + 2 * margin];
  const tall = new Float64Array(w * down);
  for (let y = 0; y < down; y++)
    for (let x = 0; x < w; x++) tall[y * w + x] = turned((i) => v[i * w + x], y - margin, h);
  const whole = new Float64Array(across * down);
  for (let y = 0; y < down; y++)
    for (let x = 0; x < across; x++) {
      const grey = turned((i) => tall[y * w + i], x - margin, w);
      whole[y * across + x] = Math.min(Math.max(grey, 0), 255);
    }
  return { v: whole, w: across, h: down };
}

// Return what `pick` finds in each whole square window, one that reaches so far each way.
function slide(picture, reach, pick) {
  return slideAlong(slideAlong(picture, reach, pick), reach, pick);
}

// Return what `pick` finds in each whole window of a row, rows and columns exchanged.
//
// Source: M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular and
// octagonal kernels, Pattern Recognition Letters 13 (1992), 517-521.
function slideAlong({ v, w, h }, reach, pick) {
  const size = 2 * reach + 1;
  const result = { v: new Float64Array((w - 2 * reach) * h), w: h, h: w - 2 * reach };
  const [before, after] = [new Float64Array(w), new Float64Array(w)];
  for (let y = 0; y < h; y++) {
    // The pick from the start of each stretch of `size` up to a place, and from there to its end.
    for (let x = 0; x < w; x++) {
      const n = v[y * w + x];
      before[x] = x % size ? pick(before[x - 1], n) : n;
    }
    for (let x = w - 1; x >= 0; x--) {
      const n = v[y * w + x];
      after[x] = (x + 1) % size && x < w - 1 ? pick(after[x + 1], n) : n;
    }
    for (let x = 0; x < result.h; x++)
      result.v[x * h + y] = pick(after[x], before[x + size - 1]);
  }
  return result;
}

// Step 6.
function withoutSpecks({ v, w, h }) {
  const [left, pieces] = [v.slice(), []];
  for (let i = 0; i < v.length; i++) {
    if (!left[i]) continue;
    const piece = { pixels: [i], mass: 0 };
    left[i] = 0;
    for (const at of piece.pixels) {
      piece.mass += v[at];
      const [x, y] = [at % w, Math.floor(at / w)];
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, h - 1); row++)
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, w - 1); column++) {
          if (left[row * w + column]) piece.pixels.push(row * w + column);
          left[row * w + column] = 0;
        }
    }
    pieces.push(piece);
  }
  const biggest = Math.max(...pieces.map(({ mass }) => mass));
  for (const { pixels, mass } of pieces)
    if (20 * mass < biggest) for (const at of pixels) v[at] = 0;
  return { v, w, h };
}

// Step 7, its first half.
function cropped({ v, w, h }) {
  let [left, right, top, bottom] = [w, 0, h, 0];
  v.forEach((n, i) => {
    if (!n) return;
    const [x, y] = [i % w, Math.floor(i / w)];
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  });
  const ink = { v: [], w: right - left, h: bottom - top };
  for (let y = top; y < bottom; y++) ink.v.push(...v.subarray(y * w + left, y * w + right));
  return ink;
}

// Step 7, its second half, and step 8.
function scaled({ v, w, h }) {
  const longer = Math.max(w, h);
  const size = (n) => Math.max(1, Math.floor((2 * INNER * n + longer) / (2 * longer)));
  const small = { v: [], w: size(w), h: size(h) };
  for (let y = 0; y < small.h; y++)
    for (let x = 0; x < small.w; x++) {
      let sum = 0;
      for (const [i, tall] of coverage(y, h, small.h))
        for (const [j, wide] of coverage(x, w, small.w)) sum += tall * wide * v[i * w + j];
      small.v.push(sum);
    }
  const brightest = small.v.reduce((a, b) => Math.max(a, b));
  return { ...small, v: small.v.map((sum) => Math.floor((255 * sum) / brightest + 0.5)) };
}

// Return which of `before` pixels lie, and how much of each, in pixel `i` of `after`.
function coverage(i, before, after) {
  const [first, last] = [(i * before) / after, ((i + 1) * before) / after];
  const found = [];
  for (let j = Math.floor(first); j < last; j++)
    found.push([j, Math.min(last, j + 1) - Math.max(first, j)]);
  return found;
}

// Step 9.
function centred({ v, w, h }) {
  const mass = v.reduce((a, b) => a + b);
  const middle = (where) => v.reduce((sum, n, i) => sum + n * where(i), 0) / mass;
  const place = (m, n) => Math.min(Math.max(Math.floor(14.4 - m), 0), SIDE - n);
  const left = place(middle((i) => i % w), w);
  const top = place(middle((i) => Math.floor(i / w)), h);
  const pixels = new Uint8Array(SIDE * SIDE);
  v.forEach((n, i) => (pixels[(top + Math.floor(i / w)) * SIDE + left + (i % w)] = n));
  return pixels;
}
