// Warp-level products of 16-bit tiles on tensor cores (compute capability 8.0 and newer), as one layer that the emulator
// can replace by the layout that the PTX manual documents.
#pragma once
#include "platform.h"

#ifndef KERNEL_EMULATOR

// Four 8×8 matrices of 16-bit elements from shared memory; lane `i` gives the address of row i%8 of matrix i/8. Lane l
// gets, of each matrix, the elements (l/4, 2·(l%4)) and (l/4, 2·(l%4) + 1).
__device__ inline void load_matrices(u32 (&out)[4], const bf16 *row) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

// The same, transposed: lane l gets the elements (2·(l%4), l/4) and (2·(l%4) + 1, l/4).
__device__ inline void load_matrices_transposed(u32 (&out)[4], const bf16 *row) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

// sums += a·b for a 16×16 tile a and a 16×8 tile b. With g = lane/4 and t = lane%4, a lane holds of a the pairs
// (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8) along the row, of b the pairs (2t, g), (2t + 8, g) along the column,
// of the sums (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ inline void multiply(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

// Two floats as a pair of bfloat16, the first one in the lower half.
__device__ inline u32 pair(float low, float high) {
    return from_float<bf16>(low).bits | static_cast<u32>(from_float<bf16>(high).bits) << 16;
}
