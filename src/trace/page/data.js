"use strict";
// The recorded data and how it is packed; see the description of the format in the program's documentation.
const DATA = JSON.parse(document.getElementById("trace-data").textContent);
const { shape, chunks, events, attention, layers, pictures } = DATA;
const PER_FRAME = shape.rows * shape.columns;
const ROLES = ["sink", "averaged", "memory", "selected", "copied", "recent", "current"];
const ROLE_NAMES = {
  sink: "sink", averaged: "averaged sink", memory: "memory of what left, up to", selected: "selected",
  copied: "played again", recent: "recent", current: "chunk in work",
};
/** Runs of frames of a role; those of few policies may be absent. */
const runsOf = (held, role) => held[role] || [];

const bytesOf = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));

/** Numbers of the bits that are 1; the first bit is the highest of its byte. */
function setBits(text, count) {
  const bytes = bytesOf(text), set = [];
  for (let bit = 0; bit < count; bit++) if (bytes[bit >> 3] & (0x80 >> (bit & 7))) set.push(bit);
  return set;
}

/** Numbers of the tokens in their frame: distances from one to the next, 255 one without a token. */
function cellsOf(selected) {
  const cells = [];
  let end = 0;
  for (const byte of bytesOf(selected.cells)) {
    end += byte;
    if (byte !== 255) cells.push(end - 1);
  }
  return cells;
}

const keyOf = (chunk, layer) => chunk * 100000 + layer;
const eventBy = new Map(events.map(event => [keyOf(event.chunk, event.layer), event]));
const attentionBy = new Map(attention.map(seen => [keyOf(seen.chunk, seen.layer), seen]));

/** What a layer holds at a chunk. */
const heldAt = (chunk, layer) => chunk.layers.length > 1 ? chunk.layers[layers.indexOf(layer)] : chunk.layers[0];
const eventAt = (chunk, layer) => eventBy.get(keyOf(chunk.chunk, layer));
/** The last event of a layer up to a chunk: what is selected then stays until the next one. */
function lastEvent(index, layer) {
  for (let i = index; i >= 0; i--) {
    const event = eventAt(chunks[i], layer);
    if (event) return event;
  }
  return null;
}
const eventIndices = chunks.map((chunk, index) => chunk.event ? index : -1).filter(index => index >= 0);
const sumOf = runs => runs.reduce((sum, run) => sum + run[1], 0);
const tokensAt = (chunk, layer) => ROLES.reduce((sum, role) => sum + sumOf(runsOf(heldAt(chunk, layer), role)), 0);

/** First picture of a latent frame: frame 0 is one picture, every other one is four. */
const pictureOf = frame => frame === 0 ? 0 : 4 * frame - 3;
const secondsOf = frame => pictureOf(frame) / DATA.fps;
const ageOf = (start, frame) => 4 * (start - frame) / DATA.fps;

const number = value => value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
const percent = value => value === 0 ? "0 %" : (100 * value).toFixed(value < 0.0995 ? 1 : 0) + " %";
const bytes = value => value >= 1e9 ? number(value / 1e9) + " GB" : value >= 1e6 ? number(value / 1e6) + " MB" : number(value / 1e3) + " kB";
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
