"""TensorFlow's kernels as they compute on x86-64, for ARM64: the same bits on both.

On x86-64 TensorFlow's own kernels compute: oneDNN's, capped at AVX2, and Eigen's, compiled for AVX.
On ARM64 those sum in another order and round elsewhere. There `kernels` gives each operation that
differs a replacement, built of operations that compute the same bits on both:

- `products`, `convolutions`: matrix products and convolutions, as chains of fused multiply-adds;
- `sums`: over axes, in Eigen's order;
- `elementary`, of `eigen` and `libm`, and `softmax`: polynomials, each product and sum rounded;
- `transform`: of images, by augmentation.

`python -m tests.conformance` compares each with x86-64, bit by bit: of a new TensorFlow, say.
"""
