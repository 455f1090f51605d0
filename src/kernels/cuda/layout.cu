// From planes of positions to channels side by side and back, for convolutions by a library whose tensor cores want
// the channels of a position together. Tiles of 64 positions × 32 channels go through shared memory as pairs of
// channels; bfloat16 alone, an even number of positions, channels a multiple of eight.
#include "platform.h"

constexpr int TILE_POSITIONS = 64, TILE_CHANNELS = 32;

struct Tile {
    // A word holds two channels of a position; the odd row length spreads them over the banks.
    u32 words[TILE_POSITIONS][TILE_CHANNELS / 2 + 1];
};

__device__ inline u32 pair_of(bf16 low, bf16 high) {
    return static_cast<u32>(low.bits) | static_cast<u32>(high.bits) << 16;
}

// Two neighbouring positions of a plane; with `doubled` both are one position of a plane half as wide and high.
__device__ inline Pack<bf16, 2> two_positions(const bf16 *plane, int position, int width, int doubled) {
    if (!doubled) {
        return load<bf16, 2>(plane + position);
    }
    const bf16 value = plane[position / width / 2 * (width / 2) + position % width / 2];
    return {{value, value}};
}

// Frames [history + frames, positions, channels] of those remembered and new, both [frames, channels, positions]; the
// first `missing` are zeros, the next up to `history` are remembered ones. With `doubled` what is read is half as wide
// and high; `width` is that of the result. Grid (positions, channels, frames).
extern "C" __global__ void __launch_bounds__(256)
    channels_last_bf16(bf16 *out, const bf16 *remembered, const bf16 *fresh, int missing, int history, int channels,
                       int positions, int width, int doubled) {
    __shared__ Tile tile;
    const int first_position = blockIdx.x * TILE_POSITIONS, first_channel = blockIdx.y * TILE_CHANNELS;
    const int frame = blockIdx.z;
    const i64 plane = doubled ? positions / 4 : positions;
    const bf16 *from = frame < history ? remembered + static_cast<i64>(frame - missing) * channels * plane
                                       : fresh + static_cast<i64>(frame - history) * channels * plane;
#pragma unroll
    for (int i = threadIdx.x; i < TILE_POSITIONS / 2 * TILE_CHANNELS / 2; i += 256) {
        const int place = i % (TILE_POSITIONS / 2) * 2, both = i / (TILE_POSITIONS / 2);
        const int position = first_position + place, channel = first_channel + 2 * both;
        Pack<bf16, 2> low = {}, high = {};
        if (frame >= missing && position < positions && channel < channels) {
            low = two_positions(from + channel * plane, position, width, doubled);
            high = two_positions(from + (channel + 1) * plane, position, width, doubled);
        }
        tile.words[place][both] = pair_of(low.at[0], high.at[0]);
        tile.words[place + 1][both] = pair_of(low.at[1], high.at[1]);
    }
    __syncthreads();
    const int place = threadIdx.x / (TILE_CHANNELS / 8), eight = threadIdx.x % (TILE_CHANNELS / 8);
    const int position = first_position + place, channel = first_channel + 8 * eight;
    if (position < positions && channel < channels) {
        Pack<u32, 4> words;
        for (int j = 0; j < 4; j++) {
            words.at[j] = tile.words[place][4 * eight + j];
        }
        const i64 at = (static_cast<i64>(frame) * positions + position) * channels + channel;
        *reinterpret_cast<Pack<u32, 4> *>(out + at) = words;
    }
}

// Back: [frames, positions, channels] to [frames, channels, positions], with bias, residual (as the result; either may
// be null) and ReLU on the way. Grid (positions, channels, frames).
extern "C" __global__ void __launch_bounds__(256)
    channels_first_bf16(bf16 *out, const bf16 *x, const bf16 *bias, const bf16 *residual, int channels, int positions,
                        int relu) {
    __shared__ Tile tile;
    const int first_position = blockIdx.x * TILE_POSITIONS, first_channel = blockIdx.y * TILE_CHANNELS;
    const i64 frame = blockIdx.z;
    {
        const int place = threadIdx.x / (TILE_CHANNELS / 8), eight = threadIdx.x % (TILE_CHANNELS / 8);
        const int position = first_position + place, channel = first_channel + 8 * eight;
        Pack<u32, 4> words = {};
        if (position < positions && channel < channels) {
            const i64 at = (frame * positions + position) * channels + channel;
            words = *reinterpret_cast<const Pack<u32, 4> *>(x + at);
        }
        for (int j = 0; j < 4; j++) {
            tile.words[place][4 * eight + j] = words.at[j];
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = threadIdx.x; i < TILE_POSITIONS / 2 * TILE_CHANNELS / 2; i += 256) {
        const int place = i % (TILE_POSITIONS / 2) * 2, both = i / (TILE_POSITIONS / 2);
        const int position = first_position + place;
        const u32 words[2] = {tile.words[place][both], tile.words[place + 1][both]};
        for (int half = 0; half < 2; half++) {
            const int channel = first_channel + 2 * both + half;
            if (position >= positions || channel >= channels) {
                continue;
            }
            const i64 at = (frame * channels + channel) * positions + position;
            Pack<bf16, 2> added = {};
            if (residual != nullptr) {
                added = load<bf16, 2>(residual + at);
            }
            const float shift = bias == nullptr ? 0.0f : to_float(bias[channel]);
            Pack<bf16, 2> result;
            for (int j = 0; j < 2; j++) {
                const bf16 value = {static_cast<unsigned short>(words[j] >> 16 * half)};
                float v = to_float(value) + shift + to_float(added.at[j]);
                result.at[j] = from_float<bf16>(relu ? fmaxf(v, 0.0f) : v);
            }
            store<bf16, 2>(out + at, result);
        }
    }
}
