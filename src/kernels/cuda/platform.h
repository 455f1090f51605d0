// What the kernels need of the platform. Compiled by nvcc for the device; compiled by any C++17 compiler for the
// emulator of the tests, which defines KERNEL_EMULATOR and gives threadIdx, barriers and shuffles on the host.
#pragma once

#ifdef KERNEL_EMULATOR
#include "emulator.h"
#else
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// A bfloat16: the upper half of a float.
struct bf16 {
    unsigned short bits;
};

__device__ inline float to_float(float v) { return v; }

__device__ inline float to_float(bf16 v) { return __uint_as_float(static_cast<u32>(v.bits) << 16); }

template <typename T> __device__ inline T from_float(float v);

template <> __device__ inline float from_float<float>(float v) { return v; }

// To nearest, ties to even; NaN stays NaN.
template <> __device__ inline bf16 from_float<bf16>(float v) {
    bf16 out;
#ifdef KERNEL_EMULATOR
    u32 bits = __float_as_uint(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        out.bits = static_cast<unsigned short>((bits >> 16) | 0x40u);
    } else {
        out.bits = static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
#else
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
#endif
    return out;
}

// Elements that are read or written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <typename T, int N> __device__ inline Pack<T, N> load(const T *from) {
    return *reinterpret_cast<const Pack<T, N> *>(from);
}

template <typename T, int N> __device__ inline void store(T *to, const Pack<T, N> &pack) {
    *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

__device__ inline float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset /= 2) {
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    }
    return v;
}

// Sum over the block, given to every thread. `scratch` holds a float per warp; may be used again after the call.
__device__ inline float block_sum(float v, float *scratch) {
    v = warp_sum(v);
    const int warps = blockDim.x / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = v;
    }
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < warps; warp++) {
        total += scratch[warp];
    }
    return total;
}

