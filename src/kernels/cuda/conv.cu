// Causal convolutions over [frames, channels, height, width], as implicit matrix products.
//
// `x` holds the frames with their history in front. Nearest-neighbour doubling, zero padding, bias, residual sum and
// ReLU are part of the pass. Weights are packed [out, tap, in] with taps ordered time, row, column (oldest frame first)
// and `in` padded with zeros to `padded` channels.
#include "platform.h"
#include "tensor_core.h"

struct ConvShape {
    int in_channels, padded, out_channels;
    int height, width;         // of x
    int out_height, out_width; // of the result
    int time_kernel, time_stride, kernel, stride;
    int before;  // zero rows above, zero columns left
    int upsample; // 2: rows and columns of x count twice; else 1
    int relu;
};

// Where tap (row, column) of an output position reads in a plane of x; −1 in the padding.
__device__ inline int source(const ConvShape &s, int out_row, int out_column, int tap_row, int tap_column) {
    const int row = out_row * s.stride + tap_row - s.before;
    const int column = out_column * s.stride + tap_column - s.before;
    if (row < 0 || column < 0 || row >= s.height * s.upsample || column >= s.width * s.upsample) {
        return -1;
    }
    return row / s.upsample * s.width + column / s.upsample;
}

template <typename T> __device__ inline T finish(const ConvShape &s, float sum, const T *bias, const T *residual,
                                                 int channel, i64 at) {
    if (bias != nullptr) {
        sum += to_float(bias[channel]);
    }
    if (residual != nullptr) {
        sum += to_float(residual[at]);
    }
    return from_float<T>(s.relu ? fmaxf(sum, 0.0f) : sum);
}

// One output element per thread: for parity tests and small models. Grid (positions, channels, frames).
template <typename T>
__device__ inline void conv_direct(T *out, const T *x, const T *weight, const T *bias, const T *residual,
                                   const ConvShape s) {
    const int positions = s.out_height * s.out_width;
    const int position = blockIdx.x * blockDim.x + threadIdx.x;
    const int channel = blockIdx.y, frame = blockIdx.z;
    if (position >= positions) {
        return;
    }
    const int row = position / s.out_width, column = position % s.out_width;
    const i64 plane = static_cast<i64>(s.height) * s.width;
    const int taps = s.time_kernel * s.kernel * s.kernel;
    float sum = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        const int area = tap % (s.kernel * s.kernel);
        const int from = source(s, row, column, area / s.kernel, area % s.kernel);
        if (from < 0) {
            continue;
        }
        const i64 source_frame = static_cast<i64>(frame) * s.time_stride + tap / (s.kernel * s.kernel);
        const T *in = x + source_frame * s.in_channels * plane + from;
        const T *w = weight + (static_cast<i64>(channel) * taps + tap) * s.padded;
        for (int i = 0; i < s.in_channels; i++) {
            sum += to_float(in[i * plane]) * to_float(w[i]);
        }
    }
    const i64 at = (static_cast<i64>(frame) * s.out_channels + channel) * positions + position;
    out[at] = finish(s, sum, bias, residual, channel, at);
}

extern "C" __global__ void __launch_bounds__(256)
    conv_direct_f32(float *out, const float *x, const float *weight, const float *bias, const float *residual,
                    const ConvShape s) {
    conv_direct<float>(out, x, weight, bias, residual, s);
}

extern "C" __global__ void __launch_bounds__(256)
    conv_direct_bf16(bf16 *out, const bf16 *x, const bf16 *weight, const bf16 *bias, const bf16 *residual,
                     const ConvShape s) {
    conv_direct<bf16>(out, x, weight, bias, residual, s);
}

// Tensor cores: 64 output channels × 128 positions of a frame per block of four warps (32 × 64 each), 32 input channels
// of one tap per step; `padded` is a multiple of 32. Grid (positions, channels, frames).
extern "C" __global__ void __launch_bounds__(128)
    conv_tiles_bf16(bf16 *out, const bf16 *x, const bf16 *weight, const bf16 *bias, const bf16 *residual,
                    const ConvShape s) {
    constexpr int CHANNELS = 64, POSITIONS = 128, DEPTH = 32, ROW = DEPTH + 8;
    alignas(16) __shared__ bf16 tile_w[CHANNELS][ROW];
    alignas(16) __shared__ bf16 tile_x[POSITIONS][ROW];
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int g = lane / 4, t = lane % 4;
    const int positions = s.out_height * s.out_width;
    const i64 plane = static_cast<i64>(s.height) * s.width;
    const int taps = s.time_kernel * s.kernel * s.kernel;
    const int first_channel = blockIdx.y * CHANNELS, first_position = blockIdx.x * POSITIONS;
    const int frame = blockIdx.z;
    // Each thread gathers the inputs of one position.
    const int position = first_position + thread;
    const int out_row = position / s.out_width, out_column = position % s.out_width;
    const int warp_channel = warp / 2 * 32, warp_position = warp % 2 * 64;
    float sums[2][8][4] = {};

    for (int tap = 0; tap < taps; tap++) {
        const int area = tap % (s.kernel * s.kernel);
        int from = -1;
        if (position < positions) {
            from = source(s, out_row, out_column, area / s.kernel, area % s.kernel);
        }
        const i64 source_frame = static_cast<i64>(frame) * s.time_stride + tap / (s.kernel * s.kernel);
        const bf16 *in = x + source_frame * s.in_channels * plane + (from < 0 ? 0 : from);
        for (int channel = 0; channel < s.padded; channel += DEPTH) {
            Pack<bf16, 8> inputs[DEPTH / 8], rows[2];
#pragma unroll
            for (int i = 0; i < DEPTH; i++) {
                bf16 value = {};
                if (from >= 0 && channel + i < s.in_channels) {
                    value = in[(channel + i) * plane];
                }
                inputs[i / 8].at[i % 8] = value;
            }
            // 64 rows of 32 weights are 256 packs of 8.
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int row = (thread + i * 128) / 4, column = (thread + i * 128) % 4 * 8;
                rows[i] = {};
                if (first_channel + row < s.out_channels) {
                    const i64 start = (static_cast<i64>(first_channel + row) * taps + tap) * s.padded;
                    rows[i] = load<bf16, 8>(weight + start + channel + column);
                }
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < DEPTH / 8; i++) {
                store<bf16, 8>(&tile_x[thread][i * 8], inputs[i]);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                store<bf16, 8>(&tile_w[(thread + i * 128) / 4][(thread + i * 128) % 4 * 8], rows[i]);
            }
            __syncthreads();
#pragma unroll
            for (int step = 0; step < DEPTH / 16; step++) {
                u32 w[2][4];
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    // Matrices: channels 0–7 and 8–15, with columns 0–7, then 8–15.
                    load_matrices(w[m], &tile_w[warp_channel + m * 16 + lane % 16][step * 16 + lane / 16 * 8]);
                }
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    u32 values[4];
                    const int row = warp_position + n * 16 + lane / 16 * 8 + lane % 8;
                    load_matrices(values, &tile_x[row][step * 16 + lane / 8 % 2 * 8]);
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        multiply(sums[m][2 * n], w[m], values[0], values[1]);
                        multiply(sums[m][2 * n + 1], w[m], values[2], values[3]);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int n = 0; n < 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int channel = first_channel + warp_channel + m * 16 + g + i / 2 * 8;
                const int place = first_position + warp_position + n * 8 + 2 * t + i % 2;
                if (channel < s.out_channels && place < positions) {
                    const i64 at = (static_cast<i64>(frame) * s.out_channels + channel) * positions + place;
                    out[at] = finish(s, sums[m][n][i], bias, residual, channel, at);
                }
            }
        }
    }
}

// Bias, residual and ReLU after a convolution by a library, in place. Grid (positions, channels, frames).
template <typename T>
__device__ inline void conv_finish(T *out, const T *bias, const T *residual, int channels, int positions, int relu) {
    const int position = blockIdx.x * blockDim.x + threadIdx.x;
    if (position >= positions) {
        return;
    }
    const i64 at = (static_cast<i64>(blockIdx.z) * channels + blockIdx.y) * positions + position;
    ConvShape s = {};
    s.relu = relu;
    out[at] = finish(s, to_float(out[at]), bias, residual, static_cast<int>(blockIdx.y), at);
}

extern "C" __global__ void __launch_bounds__(256)
    conv_finish_f32(float *out, const float *bias, const float *residual, int channels, int positions, int relu) {
    conv_finish<float>(out, bias, residual, channels, positions, relu);
}

extern "C" __global__ void __launch_bounds__(256)
    conv_finish_bf16(bf16 *out, const bf16 *bias, const bf16 *residual, int channels, int positions, int relu) {
    conv_finish<bf16>(out, bias, residual, channels, positions, relu);
}

// Doubles rows and columns of planes of height × width, nearest neighbour. One thread per result.
template <typename T> __device__ inline void upsample(T *out, const T *x, i64 all, int height, int width) {
    const i64 at = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= all) {
        return;
    }
    const i64 column = at % (2 * width), row = at / (2 * width) % (2 * height);
    const i64 plane = at / (4 * static_cast<i64>(height) * width);
    out[at] = x[(plane * height + row / 2) * width + column / 2];
}

extern "C" __global__ void __launch_bounds__(256) upsample_f32(float *out, const float *x, i64 all, int height,
                                                               int width) {
    upsample<float>(out, x, all, height, width);
}

extern "C" __global__ void __launch_bounds__(256) upsample_bf16(bf16 *out, const bf16 *x, i64 all, int height,
                                                                int width) {
    upsample<bf16>(out, x, all, height, width);
}
