#!/usr/bin/env bash
# Makes docs/demo.gif, the moving picture of README.md: one prompt and seed, on the left with a first-in-first-out cache,
# on the right with Deep Forcing, four times as fast as the videos. Needs ffmpeg; $PROGRAM, $PROMPT and $SEED
# are those to render with.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${PROGRAM:-target/release/deepforcing}
picture=docs/demo.gif
most=1500000
prompt=${PROMPT:-a blue cube spinning in front of snowy mountains on a sunny day}

command -v ffmpeg >/dev/null || { printf '%s needs ffmpeg: apt-get install ffmpeg\n' "$0" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for policy in fifo deep-forcing; do
    "$program" generate "$prompt" --model toy --seconds 30 --seed "${SEED:-1}" --policy "$policy" -o "$folder/$policy.mp4"
done

# Twice the size, a gap between the two, 8 frames a second.
ffmpeg -loglevel error -y -i "$folder/fifo.mp4" -i "$folder/deep-forcing.mp4" -filter_complex "
    [0]scale=iw*2:-1:flags=neighbor,pad=iw+8:ih:0:0:white[left];
    [1]scale=iw*2:-1:flags=neighbor[right];
    [left][right]hstack,setpts=PTS/4,fps=8,split[frames][colours];
    [colours]palettegen=max_colors=128:stats_mode=full[palette];
    [frames][palette]paletteuse=dither=none:diff_mode=rectangle" "$folder/demo.gif"

bytes=$(stat -c %s "$folder/demo.gif")
((bytes <= most)) || { printf '%s would have %s bytes, at most %s are wanted\n' "$picture" "$bytes" "$most" >&2; exit 1; }
mv "$folder/demo.gif" "$picture"
printf '%s: %s bytes\n' "$picture" "$bytes"
