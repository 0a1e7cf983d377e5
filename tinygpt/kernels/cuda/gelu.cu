// GELU, exact and in the tanh form. The derivations are in ops/gelu.py.
//
// x (n,) -> y (n,); on the way back dy (n,) -> dx (n,).

#include "elementwise.cuh"

// y = x P(x), P(x) = (1 + erf(x / sqrt(2))) / 2
DEVICE float gelu(float x) { return 0.5f * x * (1 + erff(0.70710678f * x)); }

// y' = P(x) + x p(x), p(x) = e^(-x^2 / 2) / sqrt(2 pi)
DEVICE float gelu_slope(float x) {
    return 0.5f * (1 + erff(0.70710678f * x)) + 0.39894228f * x * expf(-0.5f * x * x);
}

const float K = 0.79788456f;  // sqrt(2 / pi)
const float A = 0.044715f;

// y = x gate, gate = (1 + tanh u) / 2, u = K (x + A x^3)
DEVICE float gelu_tanh(float x) { return 0.5f * x * (1 + tanhf(K * (x + A * x * x * x))); }

// y' = gate (1 + (1 - gate) 2 K (x + 3 A x^3))
DEVICE float gelu_tanh_slope(float x) {
    float gate = 0.5f * (1 + tanhf(K * (x + A * x * x * x)));
    return gate * (1 + (1 - gate) * 2 * K * (x + 3 * A * x * x * x));
}

KERNEL void gelu_forward(scalar *y, const scalar *x, int n) { each<gelu>(y, x, n); }

KERNEL void gelu_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    each_backward<gelu_slope>(dx, dy, x, n);
}

KERNEL void gelu_tanh_forward(scalar *y, const scalar *x, int n) { each<gelu_tanh>(y, x, n); }

KERNEL void gelu_tanh_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    each_backward<gelu_tanh_slope>(dx, dy, x, n);
}
