// The forward pass of the network: the primitive operations of stages/shared/primitives.py, to which
// stages/shared/lowering.py lowers it. A result is {h, w, c, x}: height, width, channels and the
// numbers, channels last; a flat one is 1 high and 1 wide. An array of weights is {shape, x}.
"use strict";

// By name, the function from inputs, settings and arrays to a result.
const OPERATIONS = {
  affine: ([a], _, [factor, offset]) => each(a, (v, i) => v * at(factor, i) + at(offset, i)),
  relu: ([a], { negative_slope = 0, max_value = Infinity }, [slope]) =>
    each(a, (v, i) => Math.min(v < 0 ? v * (slope ? at(slope, i) : negative_slope) : v, max_value)),
  elu: ([a], { alpha }) => each(a, (v) => (v < 0 ? alpha * Math.expm1(v) : v)),
  selu: ([a]) => each(a, (v) => 1.05070098 * (v < 0 ? 1.67326324 * Math.expm1(v) : v)),
  gelu: ([a], { approximate }) => each(a, (v) => gelu(v, approximate)),
  exponential: ([a]) => each(a, Math.exp),
  hard_sigmoid: ([a]) => each(a, hardSigmoid),
  hard_silu: ([a]) => each(a, (v) => v * hardSigmoid(v)),
  mish: ([a]) => each(a, (v) => v * Math.tanh(softplus(v))),
  sigmoid: ([a]) => each(a, sigmoid),
  silu: ([a]) => each(a, (v) => v * sigmoid(v)),
  softplus: ([a]) => each(a, softplus),
  softsign: ([a]) => each(a, (v) => v / (1 + Math.abs(v))),
  tanh: ([a]) => each(a, Math.tanh),
  softmax: ([a]) => byPosition(a, softmax),
  unit: ([a]) => byPosition(a, (x) => {
    const length = Math.sqrt(Math.max(x.reduce((sum, v) => sum + v * v, 0), 1e-12));
    return x.map((v) => v / length);
  }),
  standardise,
  connect,
  convolve,
  maximum_pool: ([a], settings) => pool(a, settings, -Infinity, Math.max, (v) => v),
  average_pool: ([a], settings) => pool(a, settings, 0, (s, v) => s + v, (s, count) => s / count),
  pad,
  reshape: ([a], { shape }) => {
    const [h, w, c] = shape.length === 3 ? shape : [1, 1, ...shape];
    const left = a.x.length / Math.abs(h * w * c);
    return { h: h < 0 ? left : h, w: w < 0 ? left : w, c: c < 0 ? left : c, x: a.x };
  },
  concatenate: (inputs) => {
    const b = empty(inputs[0].h, inputs[0].w, inputs.reduce((sum, a) => sum + a.c, 0));
    let to = 0;
    for (let i = 0; i < b.h * b.w; i++)
      for (const a of inputs) {
        b.x.set(a.x.subarray(i * a.c, (i + 1) * a.c), to);
        to += a.c;
      }
    return b;
  },
  add: (inputs) => combine(inputs, (v, u) => v + u),
  average: (inputs) => each(combine(inputs, (v, u) => v + u), (v) => v / inputs.length),
  maximum: (inputs) => combine(inputs, Math.max),
  minimum: (inputs) => combine(inputs, Math.min),
  multiply: (inputs) => combine(inputs, (v, u) => v * u),
  subtract: (inputs) => combine(inputs, (v, u) => v - u),
};

function empty(h, w, c) {
  return { h, w, c, x: new Float32Array(h * w * c) };
}

function each(a, f) {
  return { ...a, x: a.x.map((v, i) => f(v, i)) };
}

// Return the weight for the i-th number of a result, of an array for the last of its axes.
function at({ x }, i) {
  return x[i % x.length];
}

// Return what f makes of the channels of each position.
function byPosition(a, f) {
  const b = empty(a.h, a.w, a.c);
  for (let i = 0; i < a.x.length; i += a.c) b.x.set(f(a.x.subarray(i, i + a.c)), i);
  return b;
}

// Combine results; one that has a side of 1 is repeated along it.
function combine(inputs, f) {
  return inputs.reduce((a, b) => {
    const [h, w, c] = [Math.max(a.h, b.h), Math.max(a.w, b.w), Math.max(a.c, b.c)];
    const index = (a, y, x, k) =>
      ((a.h > 1 ? y : 0) * a.w + (a.w > 1 ? x : 0)) * a.c + (a.c > 1 ? k : 0);
    const both = empty(h, w, c);
    for (let y = 0, i = 0; y < h; y++)
      for (let x = 0; x < w; x++)
        for (let k = 0; k < c; k++, i++)
          both.x[i] = f(a.x[index(a, y, x, k)], b.x[index(b, y, x, k)]);
    return both;
  });
}

// Return the padding before, and the number of windows, along a side, as TensorFlow has them.
function windows(side, size, stride, padding) {
  if (padding === "valid") return [0, Math.floor((side - size) / stride) + 1];
  const count = Math.ceil(side / stride);
  return [Math.max((count - 1) * stride + size - side, 0) >> 1, count];
}

function convolve([a], { strides, padding, dilation, groups }, [kernel, bias]) {
  const [kh, kw, channels, filters] = kernel.shape;
  const [down, across] = strides;
  const [top, h] = windows(a.h, (kh - 1) * dilation[0] + 1, down, padding);
  const [left, w] = windows(a.w, (kw - 1) * dilation[1] + 1, across, padding);
  const b = empty(h, w, filters);
  const count = filters / groups;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const to = (y * w + x) * filters;
      if (bias) b.x.set(bias.x, to);
      for (let i = 0; i < kh; i++)
        for (let j = 0; j < kw; j++) {
          const row = y * down + i * dilation[0] - top;
          const column = x * across + j * dilation[1] - left;
          if (row < 0 || row >= a.h || column < 0 || column >= a.w) continue;
          const from = (row * a.w + column) * a.c;
          for (let g = 0; g < groups; g++)
            for (let k = 0; k < channels; k++) {
              const first = ((i * kw + j) * channels + k) * filters + g * count;
              add(b.x, to + g * count, a.x[from + g * channels + k], kernel.x, first, count);
            }
        }
    }
  return b;
}

// Add `times` the `count` numbers of `weights` from `first` on to those of `sums` from `to` on.
function add(sums, to, times, weights, first, count) {
  if (times === 0) return;
  for (let i = 0; i < count; i++) sums[to + i] += times * weights[first + i];
}

function pool(a, { size, strides: [down, across], padding }, start, join, finish) {
  const [ph, pw] = size || [a.h, a.w];
  const [top, h] = windows(a.h, ph, down, padding);
  const [left, w] = windows(a.w, pw, across, padding);
  const b = empty(h, w, a.c);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const [first, last] = [Math.max(y * down - top, 0), Math.min(y * down - top + ph, a.h)];
      const [west, east] = [Math.max(x * across - left, 0), Math.min(x * across - left + pw, a.w)];
      for (let k = 0; k < a.c; k++) {
        let value = start;
        for (let i = first; i < last; i++)
          for (let j = west; j < east; j++) value = join(value, a.x[(i * a.w + j) * a.c + k]);
        b.x[(y * w + x) * a.c + k] = finish(value, (last - first) * (east - west));
      }
    }
  return b;
}

function connect([a], _, [weights, bias]) {
  const [size, units] = weights.shape;
  const b = empty(a.h, a.w, units);
  for (let p = 0; p < a.h * a.w; p++) {
    if (bias) b.x.set(bias.x, p * units);
    for (let i = 0; i < size; i++)
      add(b.x, p * units, a.x[p * size + i], weights.x, i * units, units);
  }
  return b;
}

function standardise([a], { groups, epsilon, per_position }) {
  const size = a.c / (groups < 0 ? a.c : groups);
  const places = a.x.length / a.c;
  const b = empty(a.h, a.w, a.c);
  for (let p = 0; p < (per_position ? places : 1); p++)
    for (let first = 0; first < a.c; first += size) {
      const together = [];
      for (let q = per_position ? p : 0; q < (per_position ? p + 1 : places); q++)
        for (let k = first; k < first + size; k++) together.push(q * a.c + k);
      const mean = together.reduce((sum, i) => sum + a.x[i], 0) / together.length;
      const squares = together.reduce((sum, i) => sum + (a.x[i] - mean) ** 2, 0);
      const deviation = Math.sqrt(squares / together.length + epsilon);
      for (const i of together) b.x[i] = (a.x[i] - mean) / deviation;
    }
  return b;
}

// Pad with zeros; a negative number crops.
function pad([a], { around: [[top, bottom], [left, right]] }) {
  const b = empty(a.h + top + bottom, a.w + left + right, a.c);
  for (let y = Math.max(top, 0); y < Math.min(top + a.h, b.h); y++)
    for (let x = Math.max(left, 0); x < Math.min(left + a.w, b.w); x++) {
      const from = ((y - top) * a.w + x - left) * a.c;
      b.x.set(a.x.subarray(from, from + a.c), (y * b.w + x) * a.c);
    }
  return b;
}

function softmax(x) {
  const highest = x.reduce((a, b) => Math.max(a, b));
  const powers = x.map((v) => Math.exp(v - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((v) => v / sum);
}

function sigmoid(v) {
  return (1 + Math.tanh(v / 2)) / 2;
}

function hardSigmoid(v) {
  return Math.min(Math.max(v / 6 + 0.5, 0), 1);
}

function softplus(v) {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
}

function gelu(v, approximate) {
  if (approximate) return (v / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
  return (v / 2) * (1 + erf(v / Math.SQRT2));
}

// The error function, to 1.5e-7.
//
// Source: M. Abramowitz, I. A. Stegun, Handbook of mathematical functions, 7.1.26.
function erf(v) {
  const t = 1 / (1 + 0.3275911 * Math.abs(v));
  const factors = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const sum = factors.reduce((sum, factor) => sum * t + factor, 0) * t;
  return Math.sign(v) * (1 - sum * Math.exp(-v * v));
}

// Return the program of the page's JSON with its weights. A weight is a whole number of three bytes,
// lowest byte first, times the scale of its array.
function load({ steps, weights, ...rest }) {
  const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
  let at = 0;
  const array = ({ shape, scale }) => {
    const x = new Float32Array(shape.reduce((a, b) => a * b, 1)).map(() => {
      at += 3;
      return ((bytes[at - 3] << 8) | (bytes[at - 2] << 16) | (bytes[at - 1] << 24)) * (scale / 256);
    });
    return { shape, x };
  };
  return { ...rest, steps: steps.map((step) => ({ ...step, arrays: step.arrays.map(array) })) };
}

// Return the output of each layer for the pixels, 0 to 255, of an image of one channel.
function run({ steps, layers }, pixels, h, w) {
  const found = [{ h, w, c: 1, x: Float32Array.from(pixels) }];
  for (const { operation, inputs, settings, arrays } of steps)
    found.push(OPERATIONS[operation](inputs.map((i) => found[i]), settings, arrays));
  return layers.map(({ result }) => found[result]);
}
