// The five views. `state` is { index, layer, head }: the chunk's place in `chunks`, a layer, a head or "mean".
const HELD = { left: 46, right: 8, top: 6, bottom: 34 };
const lastFrame = chunks.length ? chunks[chunks.length - 1].start + chunks[chunks.length - 1].frames : 1;

function mostTokens() {
  let most = shape.window * PER_FRAME;
  for (const chunk of chunks) for (const layer of layers) most = Math.max(most, tokensAt(chunk, layer));
  return most;
}
const MOST_TOKENS = mostTokens();

function drawHeld(state) {
  const canvas = byId("held"), { context, width, height } = canvasOf(canvas);
  const [inner, tall] = [width - HELD.left - HELD.right, height - HELD.top - HELD.bottom];
  const column = inner / chunks.length, byFrame = byId("held-colour").value === "frame";
  const atY = tokens => HELD.top + tall * (1 - tokens / MOST_TOKENS);
  const colours = Object.fromEntries(ROLES.map(role => [role, css("--" + role)]));
  context.fillStyle = css("--soft");
  context.strokeStyle = css("--grid");
  context.textAlign = "right";
  for (const tick of ticks(MOST_TOKENS / PER_FRAME, 6)) {
    context.fillText(number(tick), HELD.left - 6, atY(tick * PER_FRAME) + 4);
    context.beginPath();
    context.moveTo(HELD.left, atY(tick * PER_FRAME));
    context.lineTo(width - HELD.right, atY(tick * PER_FRAME));
    context.stroke();
  }
  context.save();
  context.translate(11, HELD.top + tall / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText("slots, in latent frames", 0, 0);
  context.restore();
  chunks.forEach((chunk, i) => {
    let slot = 0;
    const held = heldAt(chunk, state.layer), left = HELD.left + i * column, gap = column > 5 ? 1 : 0;
    for (const role of ROLES) for (const [frame, tokens] of runsOf(held, role)) {
      const [top, bottom] = [atY(slot + tokens), atY(slot)];
      context.fillStyle = byFrame ? ramp(frame / lastFrame) : colours[role];
      context.fillRect(left, top, column - gap, Math.max(bottom - top - (bottom - top > 4 ? 0.8 : 0), 0.3));
      slot += tokens;
    }
  });
  context.strokeStyle = css("--ink");
  context.lineWidth = 2;
  context.strokeRect(HELD.left + state.index * column - 1, HELD.top - 1, column + 1, tall + 2);
  context.fillStyle = css("--soft");
  context.textAlign = "center";
  for (const tick of ticks(chunks.length - 1, Math.min(12, inner / 70))) {
    if (Number.isInteger(tick)) context.fillText(`${tick} · ${secondsOf(chunks[tick].start).toFixed(1)} s`, HELD.left + (tick + 0.5) * column, height - HELD.bottom + 15);
  }
  context.fillText("chunk and when its pictures begin", HELD.left + inner / 2, height - 4);
  canvas.setAttribute("aria-label", "Cache over time. " + heldText(state));
  legend(byFrame);
}

function legend(byFrame) {
  const place = byId("held-legend");
  place.replaceChildren();
  if (byFrame) {
    const mark = element("i", { class: "ramp" });
    mark.style.background = `linear-gradient(90deg, ${[0, .25, .5, .75, 1].map(ramp).join(",")})`;
    place.append("frame 0", mark, "frame " + (lastFrame - 1));
    return;
  }
  const used = role => chunks.some(chunk => chunk.layers.some(held => runsOf(held, role).length));
  for (const role of ROLES.filter(role => !["averaged", "memory", "copied"].includes(role) || used(role))) {
    const mark = element("i");
    mark.style.background = `var(--${role})`;
    const entry = element("span");
    entry.append(mark, ROLE_NAMES[role]);
    place.append(entry);
  }
}

function heldText(state) {
  const held = heldAt(chunks[state.index], state.layer);
  const parts = ROLES.map(role => [role, sumOf(runsOf(held, role))]).filter(([, tokens]) => tokens);
  return parts.map(([role, tokens]) => `${ROLE_NAMES[role]} ${number(tokens / PER_FRAME)}`).join(", ") + " latent frames";
}

/** The chunk and the slot under the pointer. */
function heldUnder(event, state) {
  const box = byId("held").getBoundingClientRect();
  const index = Math.floor((event.clientX - box.left - HELD.left) / ((box.width - HELD.left - HELD.right) / chunks.length));
  if (index < 0 || index >= chunks.length) return null;
  const share = 1 - (event.clientY - box.top - HELD.top) / (box.height - HELD.top - HELD.bottom);
  let slot = share * MOST_TOKENS, text = "";
  if (slot >= 0) for (const role of ROLES) for (const [frame, tokens] of runsOf(heldAt(chunks[index], state.layer), role)) {
    if (slot >= 0 && slot < tokens) text = `${ROLE_NAMES[role]}: ${plural(tokens, "token")} of frame ${frame}`;
    slot -= tokens;
  }
  return { index, text: `chunk ${index}` + (text && ", " + text) };
}

const images = new Map();
/** Draws now, and again when the picture is there. */
function withPicture(frame, draw) {
  if (!(frame in pictures)) return draw(null);
  let image = images.get(frame);
  if (!image) {
    image = new Image();
    image.src = pictures[frame];
    images.set(frame, image);
  }
  if (image.complete && image.naturalWidth) return draw(image);
  image.addEventListener("load", () => draw(image), { once: true });
}

/** A frame with the cells of `strength` (cell → 0…1) bright and the rest dimmed. */
function card(frame, strength, caption, now) {
  const figure = element("figure", now ? { class: "now" } : {});
  const canvas = element("canvas", { role: "img", "aria-label": caption });
  const size = Math.max(8, Math.round(416 / shape.columns));
  canvas.width = shape.columns * size;
  canvas.height = shape.rows * size;
  const tint = css("--selected"), shade = css("--shade"), grid = css("--line");
  withPicture(frame, image => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (image) context.drawImage(image, 0, 0, canvas.width, canvas.height);
    if (now && image) return;
    for (let cell = 0; cell < PER_FRAME; cell++) {
      const [x, y] = [cell % shape.columns * size, Math.floor(cell / shape.columns) * size], chosen = strength.get(cell);
      if (chosen === undefined) {
        context.fillStyle = image ? "rgba(8,10,14,.72)" : shade;
        context.fillRect(x, y, size, size);
      } else {
        context.globalAlpha = image ? 0.1 + 0.4 * chosen : 0.3 + 0.7 * chosen;
        context.fillStyle = tint;
        context.fillRect(x, y, size, size);
        context.globalAlpha = 1;
      }
      if (!image || chosen !== undefined) {
        context.strokeStyle = chosen !== undefined ? tint : grid;
        context.strokeRect(x + .5, y + .5, size - 1, size - 1);
      }
    }
  });
  figure.append(canvas, element("figcaption", {}, caption));
  return figure;
}

/** Strength by frame and cell, and caption by frame, of the selection of one layer. */
function ofLayer(event) {
  const frames = new Map(), levels = event.scores ? bytesOf(event.scores.levels) : null;
  let at = 0;
  for (const selected of event.selected) {
    const entry = frames.get(selected.frame) || { strength: new Map(), tokens: 0, reuses: 0 };
    for (const cell of cellsOf(selected)) entry.strength.set(cell, levels ? levels[at++] / 255 : 1);
    entry.tokens += selected.tokens;
    entry.reuses = Math.max(entry.reuses, selected.reuses);
    frames.set(selected.frame, entry);
  }
  return frames;
}

function ofAllLayers(index) {
  const frames = new Map(), found = layers.map(layer => lastEvent(index, layer)).filter(Boolean);
  for (const event of found) for (const selected of event.selected) {
    const entry = frames.get(selected.frame) || { strength: new Map(), tokens: 0, reuses: 0 };
    for (const cell of cellsOf(selected)) entry.strength.set(cell, (entry.strength.get(cell) || 0) + 1 / found.length);
    entry.tokens += selected.tokens;
    entry.reuses = Math.max(entry.reuses, selected.reuses);
    frames.set(selected.frame, entry);
  }
  return frames;
}

/** Frames shown at once: those with the most tokens. */
const MOST_CARDS = 19;

function drawTop(state) {
  const place = byId("top"), all = byId("top-all").checked, chunk = chunks[state.index];
  const event = lastEvent(state.index, state.layer);
  byId("top-hint").textContent = "";
  byId("top-more").hidden = true;
  if (!event) return empty(place, "No room had to be made up to this chunk, so nothing is selected yet.");
  if (!event.selected.length) return empty(place, "This policy drops whole frames; it selects no tokens.");
  const frames = [...(all ? ofAllLayers(state.index) : ofLayer(event))].sort((a, b) => a[0] - b[0]);
  const since = event.chunk === chunk.chunk ? "" : ` They were selected at chunk ${event.chunk} and stay until the next event.`;
  byId("top-hint").textContent = (all
    ? `Tokens that the ${plural(layers.length, "layer")} keep from each frame; the more layers, the stronger the colour.`
    : "Tokens that this layer keeps from each frame; the higher the score, the stronger the colour.") + since;
  const least = byId("top-more").dataset.all ? 0 : [...frames].map(([, { tokens }]) => tokens).sort((a, b) => b - a)[MOST_CARDS - 1] || 0;
  const shown = frames.filter(([, { tokens }]) => tokens >= least);
  byId("top-more").hidden = frames.length <= MOST_CARDS;
  byId("top-more").textContent = byId("top-more").dataset.all ? "Show fewer" : `Show all ${frames.length} frames`;
  const cards = shown.map(([frame, { strength, tokens, reuses }]) => card(frame, strength,
    `frame ${frame} · ${secondsOf(frame).toFixed(1)} s\n${all ? plural(strength.size, "place") : plural(tokens, "token")}, selected ${reuses}×`));
  if (chunk.start in pictures) {
    cards.unshift(card(chunk.start, new Map(), `chunk in work\nframe ${chunk.start} · ${secondsOf(chunk.start).toFixed(1)} s`, true));
  }
  place.replaceChildren(...cards);
}

const slotCounts = new Map();
/** How often each slot was selected and could have been, over the events of the layers. */
function countSlots(of) {
  const key = of.join();
  if (!slotCounts.has(key)) {
    const selecting = events.filter(event => event.slots && of.includes(event.layer)), usual = selecting[selecting.length - 1];
    const most = usual ? usual.total : 0;
    const counts = { chosen: new Float64Array(most), chances: new Float64Array(most), most, usual, select: 0, candidates: 0, events: 0 };
    for (const event of selecting) {
      const [first, last] = event.candidates;
      // The first event of a video has more candidates than the others: its slots are other ones.
      if (first !== usual.candidates[0] || last !== usual.candidates[1]) continue;
      for (let slot = first; slot < last; slot++) counts.chances[slot]++;
      const chosen = setBits(event.slots, last - first);
      for (const slot of chosen) counts.chosen[first + slot]++;
      counts.select += chosen.length;
      counts.candidates += last - first;
      counts.events++;
    }
    slotCounts.set(key, counts);
  }
  return slotCounts.get(key);
}

function drawSlots(state) {
  const place = byId("slots"), counts = countSlots(byId("slots-all").checked ? layers : [state.layer]);
  byId("slots-hint").textContent = "";
  if (!counts.events) return empty(place, "No tokens were selected.");
  const even = counts.select / counts.candidates, bins = Math.min(counts.most, 260), size = counts.most / bins;
  const values = Array.from({ length: bins }, (_, bin) => {
    let chosen = 0, chances = 0;
    for (let slot = Math.floor(bin * size); slot < Math.floor((bin + 1) * size); slot++) {
      chosen += counts.chosen[slot];
      chances += counts.chances[slot];
    }
    return chances ? chosen / chances : 0;
  });
  const high = Math.max(...values, even) * 1.08, last = counts.usual;
  byId("slots-hint").textContent = `Share of ${plural(counts.events, "selection")} in which a slot of [cache, chunk] was kept while it could be dropped. `
    + `The line is an even choice (${percent(even)}). Slots behind the sink hold what was selected before.`;
  const chart = frameOf(1100, 240, { low: 0, high: counts.most, ticks: ticks(counts.most, 10), label: "slot" },
    { low: 0, high, ticks: ticks(high, 4), text: percent, label: "selected" }, "How often each slot is selected");
  const region = (low, high, name, colour) => {
    chart.svg.append(node("rect", { x: chart.atX(low), width: chart.atX(high) - chart.atX(low), y: chart.edge.top, height: chart.inner[1], fill: colour, opacity: .16 }));
    chart.svg.append(node("text", { x: (chart.atX(low) + chart.atX(high)) / 2, y: chart.edge.top + 14, "text-anchor": "middle" }, name));
  };
  region(0, last.sink, "sink, never dropped", css("--sink"));
  region(last.candidates[1], last.total, "recent", css("--recent"));
  values.forEach((value, bin) => value && bar(chart, bin * size, (bin + 1) * size, value, css("--selected"), `slot ${Math.floor(bin * size)}: ${percent(value)}`));
  line(chart, [[last.sink, even], [last.candidates[1], even]], css("--ink"), 1.2, .7);
  place.replaceChildren(chart.svg);
}
