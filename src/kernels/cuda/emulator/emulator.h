// What the kernels use of CUDA, on the host: every thread of a block is a fiber, blocks run one after the other. Barriers
// and warp operations switch between the fibers. A block in which no thread gets on (a barrier or a warp operation that
// not all reach) ends the launch with an error.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(name) unsigned char *name = emulator::dynamic_shared()

struct Dim3 {
    unsigned x, y, z;
};
struct float2 {
    float x, y;
};

extern Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
unsigned char *dynamic_shared();
void block_barrier();
// Gives `value` of every lane of the warp to every lane.
struct Values {
    uint64_t lane[32];
};
Values exchange(uint64_t value);
} // namespace emulator

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp() { emulator::exchange(0); }

inline float __uint_as_float(unsigned bits) {
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
}
inline unsigned __float_as_uint(float v) {
    unsigned bits;
    std::memcpy(&bits, &v, 4);
    return bits;
}
inline float __shfl_sync(unsigned, float v, int lane) {
    return __uint_as_float(static_cast<unsigned>(emulator::exchange(__float_as_uint(v)).lane[lane % 32]));
}
inline int __shfl_sync(unsigned, int v, int lane) {
    return static_cast<int>(static_cast<unsigned>(emulator::exchange(static_cast<unsigned>(v)).lane[lane % 32]));
}
inline float __shfl_xor_sync(unsigned mask, float v, int other) {
    return __shfl_sync(mask, v, static_cast<int>(threadIdx.x % 32) ^ other);
}
inline unsigned __ballot_sync(unsigned, bool flag) {
    const emulator::Values values = emulator::exchange(flag);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++) {
        votes |= static_cast<unsigned>(values.lane[lane] & 1) << lane;
    }
    return votes;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int atomicAdd(int *to, int v) {
    const int before = *to;
    *to += v;
    return before;
}

// Tensor cores, by the layouts of the PTX manual (see tensor_core.h).
struct bf16;
void load_matrices(unsigned (&out)[4], const bf16 *row);
void load_matrices_transposed(unsigned (&out)[4], const bf16 *row);
void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
