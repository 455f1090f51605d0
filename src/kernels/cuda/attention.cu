// Softmax attention that never holds the score matrix: tiles of keys with a running maximum and sum.
//
// q, out [queries, heads, DIM], k and v [keys, heads, DIM]; the rows of a head are `stride` elements apart.
#include "platform.h"
#include "tensor_core.h"

// Tensor cores, bfloat16. 64 queries (four warps of 16) of one head per block, 64 keys per step. Grid (tiles, heads).
template <int DIM>
__device__ inline void attention_tiles(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int queries, int keys,
                                       int stride, float scale) {
    constexpr int KEYS = 64, ROW = DIM + 8; // padded: rows start in different banks
    alignas(16) __shared__ bf16 tile_k[KEYS][ROW];
    alignas(16) __shared__ bf16 tile_v[KEYS][ROW];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int g = lane / 4, t = lane % 4;
    const i64 head = static_cast<i64>(blockIdx.y) * DIM;
    const int first = blockIdx.x * 64 + warp * 16;

    // Queries of the warp; those beyond the last are zeros.
    u32 query[DIM / 16][4];
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
#pragma unroll
        for (int part = 0; part < 4; part++) {
            const int row = first + g + part % 2 * 8;
            const int column = step * 16 + 2 * t + part / 2 * 8;
            query[step][part] = 0;
            if (row < queries) {
                query[step][part] = *reinterpret_cast<const u32 *>(q + static_cast<i64>(row) * stride + head + column);
            }
        }
    }
    float sums[DIM / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    // e^x as 2^(x·log₂e).
    const float scale2 = scale * 1.4426950408889634f;

    for (int start = 0; start < keys; start += KEYS) {
        __syncthreads();
        for (int i = threadIdx.x; i < KEYS * (DIM / 8); i += blockDim.x) {
            const int row = i / (DIM / 8), column = i % (DIM / 8) * 8;
            Pack<bf16, 8> a = {}, b = {};
            if (start + row < keys) {
                const i64 at = static_cast<i64>(start + row) * stride + head + column;
                a = load<bf16, 8>(k + at);
                b = load<bf16, 8>(v + at);
            }
            store<bf16, 8>(&tile_k[row][column], a);
            store<bf16, 8>(&tile_v[row][column], b);
        }
        __syncthreads();

        // Scores of 16 queries × 64 keys.
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) {
#pragma unroll
            for (int block = 0; block < KEYS / 16; block++) {
                // Matrices: keys 0–7 and 8–15, each with columns 0–7 and 8–15 of the step.
                u32 key[4];
                const int row = block * 16 + lane / 16 * 8 + lane % 8;
                load_matrices(key, &tile_k[row][step * 16 + lane / 8 % 2 * 8]);
                multiply(scores[2 * block], query[step], key[0], key[1]);
                multiply(scores[2 * block + 1], query[step], key[2], key[3]);
            }
        }

        // Running softmax; a row's scores lie in the four lanes of a group.
        float maximum[2] = {largest[0], largest[1]};
#pragma unroll
        for (int block = 0; block < KEYS / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool real = start + block * 8 + 2 * t + i % 2 < keys;
                scores[block][i] = real ? scores[block][i] * scale2 : -INFINITY;
                maximum[i / 2] = fmaxf(maximum[i / 2], scores[block][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            maximum[half] = fmaxf(maximum[half], __shfl_xor_sync(0xffffffffu, maximum[half], 1));
            maximum[half] = fmaxf(maximum[half], __shfl_xor_sync(0xffffffffu, maximum[half], 2));
            // The first tile has at least one key: the maximum is finite from then on.
            const float correction = exp2f(largest[half] - maximum[half]);
            largest[half] = maximum[half];
            total[half] *= correction;
#pragma unroll
            for (int block = 0; block < DIM / 8; block++) {
                sums[block][2 * half] *= correction;
                sums[block][2 * half + 1] *= correction;
            }
        }
#pragma unroll
        for (int block = 0; block < KEYS / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[block][i] = exp2f(scores[block][i] - largest[i / 2]);
                total[i / 2] += scores[block][i];
            }
        }

        // The weights of 16 keys are the left operand as they lie.
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            const u32 weights[4] = {
                pair(scores[2 * step][0], scores[2 * step][1]),
                pair(scores[2 * step][2], scores[2 * step][3]),
                pair(scores[2 * step + 1][0], scores[2 * step + 1][1]),
                pair(scores[2 * step + 1][2], scores[2 * step + 1][3]),
            };
#pragma unroll
            for (int block = 0; block < DIM / 16; block++) {
                // Matrices: keys 0–7 and 8–15 of the step, each with columns 0–7 and 8–15 of the block.
                u32 value[4];
                load_matrices_transposed(value, &tile_v[step * 16 + lane % 16][block * 16 + lane / 16 * 8]);
                multiply(sums[2 * block], weights, value[0], value[1]);
                multiply(sums[2 * block + 1], weights, value[2], value[3]);
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        const int row = first + g + half * 8;
        if (row < queries) {
            const float inverse = 1.0f / total[half];
#pragma unroll
            for (int block = 0; block < DIM / 8; block++) {
                const u32 both = pair(sums[block][2 * half] * inverse, sums[block][2 * half + 1] * inverse);
                *reinterpret_cast<u32 *>(out + static_cast<i64>(row) * stride + head + block * 8 + 2 * t) = both;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128)
    attention_tiles_64(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int queries, int keys, int stride,
                       float scale) {
    attention_tiles<64>(out, q, k, v, queries, keys, stride, scale);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_tiles_128(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int queries, int keys, int stride,
                        float scale) {
    attention_tiles<128>(out, q, k, v, queries, keys, stride, scale);
}

// Any type and any head width up to 256, one query per warp: for parity tests and small models. Keys are taken 32 at a
// time, one per lane for the scores, in turn for the values. Shared memory: blockDim/32 · dim floats. Grid (queries per
// block of warps, heads).
template <typename T>
__device__ inline void attention_rows(T *out, const T *q, const T *k, const T *v, int queries, int keys, int stride,
                                      int dim, float scale) {
    DYNAMIC_SHARED(memory);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int query = blockIdx.x * (blockDim.x / 32) + warp;
    const i64 head = static_cast<i64>(blockIdx.y) * dim;
    float *held = reinterpret_cast<float *>(memory) + warp * dim;
    if (query >= queries) {
        return; // a whole warp; there is no barrier of the block
    }
    for (int i = lane; i < dim; i += 32) {
        held[i] = to_float(q[static_cast<i64>(query) * stride + head + i]) * scale;
    }
    __syncwarp();
    float sums[8] = {}, largest = -INFINITY, total = 0.0f;
    for (int start = 0; start < keys; start += 32) {
        float score = -INFINITY;
        if (start + lane < keys) {
            const T *key = k + static_cast<i64>(start + lane) * stride + head;
            score = 0.0f;
            for (int i = 0; i < dim; i++) {
                score += held[i] * to_float(key[i]);
            }
        }
        float maximum = fmaxf(largest, score);
        for (int offset = 16; offset > 0; offset /= 2) {
            maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, offset));
        }
        const float correction = expf(largest - maximum), weight = expf(score - maximum);
        largest = maximum;
        total = total * correction + warp_sum(weight);
        for (int i = 0; i < 8; i++) {
            sums[i] *= correction;
        }
        const int here = keys - start < 32 ? keys - start : 32;
        for (int key = 0; key < here; key++) {
            const float share = __shfl_sync(0xffffffffu, weight, key);
            const T *value = v + static_cast<i64>(start + key) * stride + head;
            for (int i = 0; i < 8; i++) {
                if (i * 32 + lane < dim) {
                    sums[i] += share * to_float(value[i * 32 + lane]);
                }
            }
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i * 32 + lane < dim) {
            out[static_cast<i64>(query) * stride + head + i * 32 + lane] = from_float<T>(sums[i] / total);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    attention_rows_f32(float *out, const float *q, const float *k, const float *v, int queries, int keys, int stride,
                       int dim, float scale) {
    attention_rows<float>(out, q, k, v, queries, keys, stride, dim, scale);
}

extern "C" __global__ void __launch_bounds__(256)
    attention_rows_bf16(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int queries, int keys, int stride,
                        int dim, float scale) {
    attention_rows<bf16>(out, q, k, v, queries, keys, stride, dim, scale);
}
