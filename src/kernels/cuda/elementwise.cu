// Rotation, activations, bias, sums of rows.
#include "platform.h"

// Rotates the pair (2i, 2i+1) of every head of a token by the token's angle i. N pairs at once, N divides `pairs`. One
// block per token.
template <typename T, int N>
__device__ inline void rotate(T *out, const T *x, const float *cosines, const float *sines, int heads, int pairs) {
    const i64 token = blockIdx.x;
    const i64 start = token * heads * pairs * 2;
    const float *c = cosines + token * pairs, *s = sines + token * pairs;
    for (int i = threadIdx.x * N; i < heads * pairs; i += blockDim.x * N) {
        const int pair = i % pairs;
        Pack<T, 2 * N> pack = load<T, 2 * N>(x + start + 2 * i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float a = to_float(pack.at[2 * j]), b = to_float(pack.at[2 * j + 1]);
            pack.at[2 * j] = from_float<T>(a * c[pair + j] - b * s[pair + j]);
            pack.at[2 * j + 1] = from_float<T>(a * s[pair + j] + b * c[pair + j]);
        }
        store<T, 2 * N>(out + start + 2 * i, pack);
    }
}

#define ROTATE(suffix, T, N)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256) rotate_##suffix(                                                 \
        T *out, const T *x, const float *cosines, const float *sines, int heads, int pairs) {                          \
        rotate<T, N>(out, x, cosines, sines, heads, pairs);                                                            \
    }

ROTATE(f32, float, 1)
ROTATE(f32_wide, float, 2)
ROTATE(bf16, bf16, 1)
ROTATE(bf16_wide, bf16, 4)

enum Activation { IDENTITY = 0, SILU = 1, GELU = 2, RELU = 3 };

__device__ inline float activate(float x, int kind) {
    switch (kind) {
    case SILU:
        return x / (1.0f + expf(-x));
    case GELU: {
        // tanh form, as x·sigmoid(2u); e^(−2u) overflows to infinity for large negative x, which gives −0.
        const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
        return x / (1.0f + expf(-2.0f * u));
    }
    case RELU:
        return fmaxf(x, 0.0f);
    default:
        return x;
    }
}

// x ← activation(x + bias), in place; bias of `width` elements or null. N elements per thread, N divides `width`.
template <typename T, int N>
__device__ inline void bias_activation(T *x, const T *bias, i64 count, int width, int kind) {
    const i64 at = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (at >= count) {
        return;
    }
    Pack<T, N> pack = load<T, N>(x + at);
    Pack<T, N> biases = {};
    if (bias != nullptr) {
        biases = load<T, N>(bias + at % width);
    }
    for (int j = 0; j < N; j++) {
        pack.at[j] = from_float<T>(activate(to_float(pack.at[j]) + to_float(biases.at[j]), kind));
    }
    store<T, N>(x + at, pack);
}

#define BIAS_ACTIVATION(suffix, T, N)                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        bias_activation_##suffix(T *x, const T *bias, i64 count, int width, int kind) {                                \
        bias_activation<T, N>(x, bias, count, width, kind);                                                            \
    }

BIAS_ACTIVATION(f32, float, 1)
BIAS_ACTIVATION(f32_wide, float, 4)
BIAS_ACTIVATION(bf16, bf16, 1)
BIAS_ACTIVATION(bf16_wide, bf16, 8)

// Sums of groups of `rows` rows of `width` elements, in f32. Block (column tile, group): 32 columns × 32 lanes of rows.
template <typename T> __device__ inline void sum_rows(float *out, const T *x, int rows, int width) {
    __shared__ float sums[32][33];
    const int place = threadIdx.x % 32, lane = threadIdx.x / 32;
    const int column = blockIdx.x * 32 + place;
    const T *group = x + static_cast<i64>(blockIdx.y) * rows * width;
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 8
        for (int row = lane; row < rows; row += 32) {
            sum += to_float(group[static_cast<i64>(row) * width + column]);
        }
    }
    sums[lane][place] = sum;
    __syncthreads();
    if (lane == 0 && column < width) {
        float total = 0.0f;
        for (int i = 0; i < 32; i++) {
            total += sums[i][place];
        }
        out[static_cast<i64>(blockIdx.y) * width + column] = total;
    }
}

extern "C" __global__ void __launch_bounds__(1024) sum_rows_f32(float *out, const float *x, int rows, int width) {
    sum_rows<float>(out, x, rows, width);
}

extern "C" __global__ void __launch_bounds__(1024) sum_rows_bf16(float *out, const bf16 *x, int rows, int width) {
    sum_rows<bf16>(out, x, rows, width);
}

// Pictures [frames, 3, positions] in −1…1 to bytes [frames, positions, 3]: clamp(v/2 + 1/2, 0, 1)·255, truncated;
// NaN becomes 0. One thread per position of a frame.
template <typename T> __device__ inline void pictures_to_bytes(unsigned char *out, const T *x, i64 all, i64 positions) {
    const i64 at = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= all) {
        return;
    }
    const i64 frame = at / positions, position = at % positions;
    for (int channel = 0; channel < 3; channel++) {
        const float v = to_float(x[(frame * 3 + channel) * positions + position]) * 0.5f + 0.5f;
        // fmaxf and fminf drop NaN: it becomes 0.
        out[at * 3 + channel] = static_cast<unsigned char>(fminf(fmaxf(v, 0.0f), 1.0f) * 255.0f);
    }
}

extern "C" __global__ void __launch_bounds__(256) pictures_to_bytes_f32(unsigned char *out, const float *x, i64 all,
                                                                        i64 positions) {
    pictures_to_bytes<float>(out, x, all, positions);
}

extern "C" __global__ void __launch_bounds__(256) pictures_to_bytes_bf16(unsigned char *out, const bf16 *x, i64 all,
                                                                         i64 positions) {
    pictures_to_bytes<bf16>(out, x, all, positions);
}
