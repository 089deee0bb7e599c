// The forward pass of the network, as Keras and stages/shared/network.py compute it. Activations are
// {h, w, c, x}: height, width, channels and the numbers, channels last.
"use strict";

// By kind of layer, the function from its input to its activations.
const LAYERS = {
  InputLayer: (a) => a,
  Activation: (a) => a,
  Dropout: (a) => a,
  Rescaling: (a, { scale, offset }) => ({ ...a, x: a.x.map((v) => v * scale + offset) }),
  Cropping2D: crop,
  Conv2D: convolve,
  MaxPooling2D: pool,
  Flatten: (a) => ({ h: 1, w: 1, c: a.x.length, x: a.x }),
  Dense: connect,
  Softmax: (a) => ({ ...a, x: softmax(a.x) }),
};

const ACTIVATIONS = {
  linear: (x) => x,
  relu: (x) => x.map((v) => Math.max(v, 0)),
  softmax,
};

function empty(h, w, c) {
  return { h, w, c, x: new Float32Array(h * w * c) };
}

function crop(a, { cropping: [[top, bottom], [left, right]] }) {
  const b = empty(a.h - top - bottom, a.w - left - right, a.c);
  for (let y = 0; y < b.h; y++) {
    const first = ((y + top) * a.w + left) * a.c;
    b.x.set(a.x.subarray(first, first + b.w * a.c), y * b.w * a.c);
  }
  return b;
}

function convolve(a, { kernel_size: [kh, kw], padding, weights: [kernel, bias] }) {
  const same = padding === "same";
  const [top, left] = same ? [(kh - 1) >> 1, (kw - 1) >> 1] : [0, 0];
  const filters = kernel.length / (kh * kw * a.c);
  const b = empty(same ? a.h : a.h - kh + 1, same ? a.w : a.w - kw + 1, filters);
  for (let y = 0; y < b.h; y++)
    for (let x = 0; x < b.w; x++) {
      const to = (y * b.w + x) * filters;
      if (bias) b.x.set(bias, to);
      for (let i = 0; i < kh; i++)
        for (let j = 0; j < kw; j++) {
          const [row, column] = [y + i - top, x + j - left];
          if (row < 0 || row >= a.h || column < 0 || column >= a.w) continue;
          const from = (row * a.w + column) * a.c;
          for (let k = 0; k < a.c; k++)
            add(b.x, to, a.x[from + k], kernel, ((i * kw + j) * a.c + k) * filters, filters);
        }
    }
  return b;
}

// Add `times` the `count` numbers of `weights` from `first` on to those of `sums` from `to` on.
function add(sums, to, times, weights, first, count) {
  if (times === 0) return;
  for (let i = 0; i < count; i++) sums[to + i] += times * weights[first + i];
}

function pool(a, { pool_size: [ph, pw], strides: [down, across] }) {
  const b = empty(Math.floor((a.h - ph) / down) + 1, Math.floor((a.w - pw) / across) + 1, a.c);
  b.x.fill(-Infinity);
  for (let y = 0; y < b.h; y++)
    for (let x = 0; x < b.w; x++)
      for (let i = 0; i < ph; i++)
        for (let j = 0; j < pw; j++)
          for (let k = 0; k < a.c; k++) {
            const to = (y * b.w + x) * a.c + k;
            const seen = a.x[((y * down + i) * a.w + x * across + j) * a.c + k];
            if (seen > b.x[to]) b.x[to] = seen;
          }
  return b;
}

function connect(a, { units, weights: [weights, bias] }) {
  const b = empty(1, 1, units);
  if (bias) b.x.set(bias);
  for (let i = 0; i < a.x.length; i++) add(b.x, 0, a.x[i], weights, i * units, units);
  return b;
}

function softmax(x) {
  const highest = x.reduce((a, b) => Math.max(a, b));
  const powers = x.map((v) => Math.exp(v - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((v) => v / sum);
}

// Return the layers of the page's JSON with their weights. A weight is a whole number of three bytes,
// lowest byte first, times the scale of its array.
function load({ layers, weights }) {
  const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
  let at = 0;
  const array = ({ size, scale }) =>
    Float32Array.from({ length: size }, () => {
      at += 3;
      return ((bytes[at - 3] << 8) | (bytes[at - 2] << 16) | (bytes[at - 1] << 24)) * (scale / 256);
    });
  return layers.map((layer) => ({ ...layer, weights: layer.arrays.map(array) }));
}

// Return the activations of each layer for the pixels, 0 to 255, of an image of one channel.
function run(layers, pixels, h, w) {
  let a = { h, w, c: 1, x: Float32Array.from(pixels) };
  return layers.map((layer) => {
    a = LAYERS[layer.kind](a, layer);
    return (a = { ...a, x: ACTIVATIONS[layer.activation || "linear"](a.x) });
  });
}
