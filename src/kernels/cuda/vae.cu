// Norm over channels and softmax over rows, for the video autoencoders.
#include "platform.h"

// x / max(‖x‖, 1e-12) · √channels · gamma over the channels at each position of [frames, channels, plane], then SiLU if
// asked for. N positions per thread; N divides `plane`. Grid (positions, frames).
template <typename T, int N>
__device__ inline void channel_norm(T *out, const T *x, const T *gamma, int channels, i64 plane, int silu) {
    const i64 position = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (position >= plane) {
        return;
    }
    const i64 start = static_cast<i64>(blockIdx.y) * channels * plane + position;
    float scale[N] = {};
#pragma unroll 4
    for (int channel = 0; channel < channels; channel++) {
        const Pack<T, N> pack = load<T, N>(x + start + channel * plane);
        for (int j = 0; j < N; j++) {
            const float v = to_float(pack.at[j]);
            scale[j] += v * v;
        }
    }
    const float root = sqrtf(static_cast<float>(channels));
    for (int j = 0; j < N; j++) {
        scale[j] = root / fmaxf(sqrtf(scale[j]), 1e-12f);
    }
#pragma unroll 4
    for (int channel = 0; channel < channels; channel++) {
        Pack<T, N> pack = load<T, N>(x + start + channel * plane);
        const float gain = to_float(gamma[channel]);
        for (int j = 0; j < N; j++) {
            const float v = to_float(pack.at[j]) * scale[j] * gain;
            pack.at[j] = from_float<T>(silu ? v / (1.0f + expf(-v)) : v);
        }
        store<T, N>(out + start + channel * plane, pack);
    }
}

#define CHANNEL_NORM(suffix, T, N)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        channel_norm_##suffix(T *out, const T *x, const T *gamma, int channels, i64 plane, int silu) {                 \
        channel_norm<T, N>(out, x, gamma, channels, plane, silu);                                                      \
    }

CHANNEL_NORM(f32, float, 1)
CHANNEL_NORM(f32_wide, float, 4)
CHANNEL_NORM(bf16, bf16, 1)
CHANNEL_NORM(bf16_wide, bf16, 4)

// Largest over the block, given to every thread.
__device__ inline float block_max(float v, float *scratch) {
    for (int offset = 16; offset > 0; offset /= 2) {
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = v;
    }
    __syncthreads();
    float largest = scratch[0];
    for (int warp = 1; warp < static_cast<int>(blockDim.x) / 32; warp++) {
        largest = fmaxf(largest, scratch[warp]);
    }
    return largest;
}

// Rows of `width` scores to softmax(scale·row), in place. One block per row; maxima and sums in f32.
template <typename T> __device__ inline void softmax_rows(T *scores, int width, float scale) {
    __shared__ float scratch[32];
    T *row = scores + static_cast<i64>(blockIdx.x) * width;
    float largest = -INFINITY;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        largest = fmaxf(largest, to_float(row[i]) * scale);
    }
    largest = block_max(largest, scratch);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        sum += expf(to_float(row[i]) * scale - largest);
    }
    const float inverse = 1.0f / block_sum(sum, scratch);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        row[i] = from_float<T>(expf(to_float(row[i]) * scale - largest) * inverse);
    }
}

extern "C" __global__ void __launch_bounds__(256) softmax_rows_f32(float *scores, int width, float scale) {
    softmax_rows<float>(scores, width, scale);
}

extern "C" __global__ void __launch_bounds__(256) softmax_rows_bf16(bf16 *scores, int width, float scale) {
    softmax_rows<bf16>(scores, width, scale);
}
