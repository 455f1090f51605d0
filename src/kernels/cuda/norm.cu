// Norms over the last axis. One block per token; statistics in f32, two passes as on the CPU.
#include "platform.h"

// Mean of a token's elements.
template <typename T, int N> __device__ inline float row_mean(const T *x, int dim, float *scratch) {
    float sum = 0.0f;
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> pack = load<T, N>(x + i);
        for (int j = 0; j < N; j++) {
            sum += to_float(pack.at[j]);
        }
    }
    return block_sum(sum, scratch) / dim;
}

// Mean of the squares of `x − centre`.
template <typename T, int N> __device__ inline float row_spread(const T *x, int dim, float centre, float *scratch) {
    float sum = 0.0f;
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> pack = load<T, N>(x + i);
        for (int j = 0; j < N; j++) {
            const float v = to_float(pack.at[j]) - centre;
            sum += v * v;
        }
    }
    return block_sum(sum, scratch) / dim;
}

// LayerNorm(x)·(1 + scale) + shift; `shared` tokens in a row share a row of scale and shift.
template <typename T, int N>
__device__ inline void modulated_norm(T *out, const T *x, const T *scale, const T *shift, int dim, int shared,
                                      float eps) {
    __shared__ float scratch[32];
    const i64 token = blockIdx.x;
    const i64 row = token / shared * dim;
    x += token * dim;
    out += token * dim;
    const float mean = row_mean<T, N>(x, dim, scratch);
    const float inverse = 1.0f / sqrtf(row_spread<T, N>(x, dim, mean, scratch) + eps);
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> values = load<T, N>(x + i);
        const Pack<T, N> scales = load<T, N>(scale + row + i);
        const Pack<T, N> shifts = load<T, N>(shift + row + i);
        Pack<T, N> result;
        for (int j = 0; j < N; j++) {
            const float normed = (to_float(values.at[j]) - mean) * inverse;
            result.at[j] = from_float<T>(normed * (1.0f + to_float(scales.at[j])) + to_float(shifts.at[j]));
        }
        store<T, N>(out + i, result);
    }
}

// LayerNorm(x)·gain + bias.
template <typename T, int N>
__device__ inline void layer_norm(T *out, const T *x, const T *gain, const T *bias, int dim, float eps) {
    __shared__ float scratch[32];
    const i64 token = blockIdx.x;
    x += token * dim;
    out += token * dim;
    const float mean = row_mean<T, N>(x, dim, scratch);
    const float inverse = 1.0f / sqrtf(row_spread<T, N>(x, dim, mean, scratch) + eps);
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> values = load<T, N>(x + i);
        const Pack<T, N> gains = load<T, N>(gain + i);
        const Pack<T, N> biases = load<T, N>(bias + i);
        Pack<T, N> result;
        for (int j = 0; j < N; j++) {
            const float normed = (to_float(values.at[j]) - mean) * inverse;
            result.at[j] = from_float<T>(normed * to_float(gains.at[j]) + to_float(biases.at[j]));
        }
        store<T, N>(out + i, result);
    }
}

// x / √(mean(x²) + eps) · gain.
template <typename T, int N> __device__ inline void rms_norm(T *out, const T *x, const T *gain, int dim, float eps) {
    __shared__ float scratch[32];
    const i64 token = blockIdx.x;
    x += token * dim;
    out += token * dim;
    const float inverse = 1.0f / sqrtf(row_spread<T, N>(x, dim, 0.0f, scratch) + eps);
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> values = load<T, N>(x + i);
        const Pack<T, N> gains = load<T, N>(gain + i);
        Pack<T, N> result;
        for (int j = 0; j < N; j++) {
            result.at[j] = from_float<T>(to_float(values.at[j]) * inverse * to_float(gains.at[j]));
        }
        store<T, N>(out + i, result);
    }
}

// x + gate·y; `shared` tokens in a row share a row of gate. One block per token.
template <typename T, int N>
__device__ inline void gated_residual(T *out, const T *x, const T *y, const T *gate, int dim, int shared) {
    const i64 token = blockIdx.x;
    const i64 at = token * dim;
    const i64 row = token / shared * dim;
    for (int i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
        const Pack<T, N> xs = load<T, N>(x + at + i);
        const Pack<T, N> ys = load<T, N>(y + at + i);
        const Pack<T, N> gates = load<T, N>(gate + row + i);
        Pack<T, N> result;
        for (int j = 0; j < N; j++) {
            result.at[j] = from_float<T>(to_float(xs.at[j]) + to_float(ys.at[j]) * to_float(gates.at[j]));
        }
        store<T, N>(out + at + i, result);
    }
}

// Per type and width of access: `_f32`, `_f32_wide`, `_bf16`, `_bf16_wide`.
#define NORMS(suffix, T, N)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) modulated_norm_##suffix(                                         \
        T *out, const T *x, const T *scale, const T *shift, int dim, int shared, float eps) {                          \
        modulated_norm<T, N>(out, x, scale, shift, dim, shared, eps);                                                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        layer_norm_##suffix(T *out, const T *x, const T *gain, const T *bias, int dim, float eps) {                    \
        layer_norm<T, N>(out, x, gain, bias, dim, eps);                                                                \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        rms_norm_##suffix(T *out, const T *x, const T *gain, int dim, float eps) {                                     \
        rms_norm<T, N>(out, x, gain, dim, eps);                                                                        \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) gated_residual_##suffix(                                         \
        T *out, const T *x, const T *y, const T *gate, int dim, int shared) {                                          \
        gated_residual<T, N>(out, x, y, gate, dim, shared);                                                            \
    }

NORMS(f32, float, 1)
NORMS(f32_wide, float, 4)
NORMS(bf16, bf16, 1)
NORMS(bf16_wide, bf16, 8)
