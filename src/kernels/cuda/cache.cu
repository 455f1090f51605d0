// Events of the key/value cache: scores of candidates, choice of the best, moving what stays, rotating what moved.
#include "platform.h"

// score[token] = scale · Σ keys[token]·queries; one warp per token, `width` is heads·head_dim.
template <typename T, int N>
__device__ inline void token_scores(float *scores, const T *keys, const float *queries, int tokens, int width,
                                    float scale) {
    const int token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= tokens) {
        return; // a whole warp
    }
    const T *key = keys + static_cast<i64>(token) * width;
    float sum = 0.0f;
    for (int i = threadIdx.x % 32 * N; i < width; i += 32 * N) {
        const Pack<T, N> pack = load<T, N>(key + i);
        for (int j = 0; j < N; j++) {
            sum += to_float(pack.at[j]) * queries[i + j];
        }
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        scores[token] = sum * scale;
    }
}

#define TOKEN_SCORES(suffix, T, N)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) token_scores_##suffix(                                           \
        float *scores, const T *keys, const float *queries, int tokens, int width, float scale) {                      \
        token_scores<T, N>(scores, keys, queries, tokens, width, scale);                                               \
    }

TOKEN_SCORES(f32, float, 1)
TOKEN_SCORES(f32_wide, float, 4)
TOKEN_SCORES(bf16, bf16, 1)
TOKEN_SCORES(bf16_wide, bf16, 8)

// Sum of `v` over the threads before this one; `total` over all. `warps` holds an int per warp; may be used again after
// the call.
__device__ inline int sum_before(int v, int *warps, int *total) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int upto = v;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_sync(0xffffffffu, upto, lane < step ? lane : lane - step);
        upto += lane < step ? 0 : other;
    }
    __syncthreads();
    if (lane == 31) {
        warps[warp] = upto;
    }
    __syncthreads();
    int before = upto - v, sum = 0;
    for (int other = 0; other < static_cast<int>(blockDim.x) / 32; other++) {
        before += other < warp ? warps[other] : 0;
        sum += warps[other];
    }
    *total = sum;
    return before;
}

// Bits whose order as integers is that of the floats (f32::total_cmp).
__device__ inline u32 ordered_bits(float v) {
    const u32 bits = __float_as_uint(v);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Chosen fewer than `limit` times; 0: no limit. A slot's tags are its cell and how often it was chosen.
__device__ inline bool eligible(const u32 *tags, int candidate, u32 limit) {
    return limit == 0 || tags[2 * candidate + 1] < limit;
}

// Indices (plus `first`) of the `count` best of `candidates` scores among the eligible, ascending; equal scores go to
// the lower index. `tags` are those of the first candidate. One block. Where fewer are eligible, the rest of `chosen`
// is 0xffffffff. By radix: four rounds fix the bits of the smallest score that is chosen. Every thread has candidates
// that follow each other, so that places are sums over threads.
extern "C" __global__ void __launch_bounds__(1024)
    select_top(u32 *chosen, const float *scores, const u32 *tags, int candidates, int count, u32 limit, u32 first) {
    __shared__ int above[257];
    __shared__ int warps[32];
    __shared__ int digit;
    const int thread = threadIdx.x, threads = blockDim.x;
    const int each = (candidates + threads - 1) / threads;
    const int begin = thread * each < candidates ? thread * each : candidates;
    const int end = begin + each < candidates ? begin + each : candidates;
    u32 prefix = 0, mask = 0;
    int wanted = count;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = thread; i < 257; i += threads) {
            above[i] = 0;
        }
        if (thread == 0) {
            digit = -1;
        }
        __syncthreads();
#pragma unroll 8
        for (int i = begin; i < end; i++) {
            const u32 bits = ordered_bits(scores[i]);
            if ((bits & mask) == prefix && eligible(tags, i, limit)) {
                atomicAdd(&above[bits >> shift & 255u], 1);
            }
        }
        __syncthreads();
        // From counts per digit to counts of this digit and those above.
        for (int step = 1; step < 256; step *= 2) {
            int more = 0;
            if (thread < 256 && thread + step < 256) {
                more = above[thread + step];
            }
            __syncthreads();
            if (thread < 256) {
                above[thread] += more;
            }
            __syncthreads();
        }
        wanted = wanted < above[0] ? wanted : above[0];
        if (thread < 256 && above[thread] >= wanted && above[thread + 1] < wanted) {
            digit = thread;
        }
        __syncthreads();
        if (digit < 0) {
            break; // nothing is wanted or eligible
        }
        wanted -= above[digit + 1];
        prefix |= static_cast<u32>(digit) << shift;
        mask |= 255u << shift;
        __syncthreads();
    }
    // All above `prefix`, and the first `wanted` that equal it.
    int written = 0;
    if (mask == 0xffffffffu) {
        int better = 0, equal = 0, total;
#pragma unroll 8
        for (int i = begin; i < end; i++) {
            const u32 bits = ordered_bits(scores[i]);
            const bool may = eligible(tags, i, limit);
            better += may && bits > prefix;
            equal += may && bits == prefix;
        }
        const int left = wanted - sum_before(equal, warps, &total);
        int takes = left < 0 ? 0 : left < equal ? left : equal;
        int place = sum_before(better + takes, warps, &written);
        for (int i = begin; i < end; i++) {
            const u32 bits = ordered_bits(scores[i]);
            if (bits < prefix || !eligible(tags, i, limit) || (bits == prefix && takes-- <= 0)) {
                continue;
            }
            if (place < count) {
                chosen[place++] = first + static_cast<u32>(i);
            }
        }
    }
    for (int i = written + thread; i < count; i += threads) {
        chosen[i] = 0xffffffffu;
    }
}

// Counts a choice of the slots `chosen`.
extern "C" __global__ void __launch_bounds__(256) count_chosen(u32 *tags, const u32 *chosen, int count, u32 slots) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count && chosen[i] < slots) {
        tags[2 * static_cast<i64>(chosen[i]) + 1] += 1;
    }
}

// Where the rows come from that follow the first `stay` ones: `chosen`, then all from `tail` on.
struct Moves {
    const u32 *chosen;
    u32 count;
    u32 tail;
};

// Moves rows of `units` units to the front, in order and in place. The first `stay` rows stay; row `stay + i` comes from
// `chosen[i]`, or, from i = `count` on, from `tail + i − count`. Sources rise, so a row never moves back: a block owns a
// few columns of all rows and goes through them from the front, and what it writes lies before what it will read.
// Block (columns, buffer).
template <typename Unit, int COLUMNS>
__device__ inline void keep_rows(Unit *a, Unit *b, Unit *c, int units, u32 stay, Moves moves, u32 moved, u32 rows) {
    constexpr int BATCH = 8;
    const u32 lanes = blockDim.x / COLUMNS;
    const int column = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
    const u32 lane = threadIdx.x / COLUMNS;
    Unit *buffer = blockIdx.y == 0 ? a : blockIdx.y == 1 ? b : c;
    for (u32 base = 0; base < moved; base += lanes * BATCH) {
        Unit held[BATCH];
        bool valid[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            const u32 i = base + k * lanes + lane;
            valid[k] = false;
            if (i < moved && column < units) {
                const u32 from = i < moves.count ? moves.chosen[i] : moves.tail + (i - moves.count);
                valid[k] = from < rows;
                if (valid[k]) {
                    held[k] = buffer[static_cast<i64>(from) * units + column];
                }
            }
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (valid[k]) {
                const u32 to = stay + base + k * lanes + lane;
                buffer[static_cast<i64>(to) * units + column] = held[k];
            }
        }
    }
}

struct alignas(16) Sixteen {
    u32 words[4];
};
struct alignas(8) Eight {
    u32 words[2];
};

extern "C" __global__ void __launch_bounds__(256)
    keep_rows_wide(Sixteen *a, Sixteen *b, Sixteen *c, int units, u32 stay, const u32 *chosen, u32 count, u32 tail,
                   u32 moved, u32 rows) {
    keep_rows<Sixteen, 4>(a, b, c, units, stay, {chosen, count, tail}, moved, rows);
}

extern "C" __global__ void __launch_bounds__(256)
    keep_rows_narrow(unsigned short *a, unsigned short *b, unsigned short *c, int units, u32 stay, const u32 *chosen,
                     u32 count, u32 tail, u32 moved, u32 rows) {
    keep_rows<unsigned short, 4>(a, b, c, units, stay, {chosen, count, tail}, moved, rows);
}

// Rows of eight bytes, as tags are: the threads have a row each.
extern "C" __global__ void __launch_bounds__(1024)
    keep_rows_tags(Eight *a, Eight *b, Eight *c, int units, u32 stay, const u32 *chosen, u32 count, u32 tail, u32 moved,
                   u32 rows) {
    keep_rows<Eight, 1>(a, b, c, units, stay, {chosen, count, tail}, moved, rows);
}

// Rotates the keys of slots `first…` anew from the unrotated ones: frame by its place in the run (`per_frame` slots
// share one), row and column by the slot's cell. `angles` are (cos, sin) pairs: a row per frame of the run, per row and
// per column of the picture, with `time_pairs`, `space_pairs` and `space_pairs` pairs. N pairs at once, N divides their
// number in a head. Shared memory: the angles of a slot. One block per slot.
template <typename T, int N>
__device__ inline void rotate_slots(T *rotated, const T *raw, const u32 *tags, const float2 *angles, u32 first,
                                    int heads, int time_pairs, int space_pairs, u32 per_frame, u32 frames, u32 rows,
                                    u32 columns) {
    DYNAMIC_SHARED(memory);
    float2 *held = reinterpret_cast<float2 *>(memory);
    const int pairs = time_pairs + 2 * space_pairs;
    const u32 slot = blockIdx.x;
    const u32 cell = tags[2 * (static_cast<i64>(first) + slot)];
    const float2 *row_angles = angles + static_cast<i64>(frames) * time_pairs;
    const float2 *column_angles = row_angles + static_cast<i64>(rows) * space_pairs;
    for (int pair = threadIdx.x; pair < pairs; pair += blockDim.x) {
        if (pair < time_pairs) {
            held[pair] = angles[static_cast<i64>(slot / per_frame) * time_pairs + pair];
        } else if (pair < time_pairs + space_pairs) {
            held[pair] = row_angles[static_cast<i64>(cell / columns) * space_pairs + pair - time_pairs];
        } else {
            held[pair] = column_angles[static_cast<i64>(cell % columns) * space_pairs + pair - time_pairs - space_pairs];
        }
    }
    __syncthreads();
    const i64 start = (static_cast<i64>(first) + slot) * heads * pairs * 2;
    for (int i = threadIdx.x * N; i < heads * pairs; i += blockDim.x * N) {
        const float2 *angle = held + i % pairs;
        Pack<T, 2 * N> pack = load<T, 2 * N>(raw + start + 2 * i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float a = to_float(pack.at[2 * j]), b = to_float(pack.at[2 * j + 1]);
            pack.at[2 * j] = from_float<T>(a * angle[j].x - b * angle[j].y);
            pack.at[2 * j + 1] = from_float<T>(a * angle[j].y + b * angle[j].x);
        }
        store<T, 2 * N>(rotated + start + 2 * i, pack);
    }
}

#define ROTATE_SLOTS(suffix, T, N)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) rotate_slots_##suffix(                                           \
        T *rotated, const T *raw, const u32 *tags, const float2 *angles, u32 first, int heads, int time_pairs,         \
        int space_pairs, u32 per_frame, u32 frames, u32 rows, u32 columns) {                                           \
        rotate_slots<T, N>(rotated, raw, tags, angles, first, heads, time_pairs, space_pairs, per_frame, frames, rows, \
                           columns);                                                                                   \
    }

ROTATE_SLOTS(f32, float, 1)
ROTATE_SLOTS(f32_wide, float, 2)
ROTATE_SLOTS(bf16, bf16, 1)
ROTATE_SLOTS(bf16_wide, bf16, 4)
