/** Mean and highest age, in seconds, of what a layer holds selected at each chunk. */
function agesOf(layer) {
  return chunks.map(chunk => {
    const runs = heldAt(chunk, layer).selected, tokens = sumOf(runs);
    if (!tokens) return null;
    const ages = runs.map(([frame]) => ageOf(chunk.start, frame));
    return { mean: runs.reduce((sum, run, i) => sum + run[1] * ages[i], 0) / tokens, highest: Math.max(...ages) };
  });
}

function drawAges(state) {
  const event = lastEvent(state.index, state.layer), places = [byId("origin"), byId("reuse"), byId("age")];
  if (!event || !event.selected.length) {
    for (const place of places) empty(place, event ? "Nothing is selected by this policy." : "Nothing is selected yet.");
    return;
  }
  byId("origin-caption").textContent = `Where they come from, at chunk ${event.chunk}`;
  const frames = [...ofLayer(event)], high = Math.max(...frames.map(([, { tokens }]) => tokens)) * 1.08, last = event.start;
  const low = Math.min(...frames.map(([frame]) => frame));
  const origin = frameOf(420, 220, { low, high: last, ticks: ticks(last, last / (last - low) * 6).filter(tick => tick >= low && Number.isInteger(tick)), label: "latent frame" },
    { low: 0, high, ticks: ticks(high, 4), label: "tokens" }, "Selected tokens by the frame they come from");
  for (const [frame, { tokens, reuses }] of frames) {
    bar(origin, frame, frame + 1, tokens, css("--selected"), `frame ${frame}: ${plural(tokens, "token")}, ${number(ageOf(last, frame))} s old, selected ${reuses}×`);
  }
  places[0].replaceChildren(origin.svg);

  const reuses = new Map();
  for (const { reuses: times, tokens } of event.selected) reuses.set(times, (reuses.get(times) || 0) + tokens);
  const most = Math.max(...reuses.values()) * 1.08, times = Math.max(...reuses.keys(), DATA.cache["reuse-limit"]);
  const reuse = frameOf(420, 220, { low: 0.5, high: times + 0.5, ticks: ticks(times, 8).filter(tick => tick >= 1 && Number.isInteger(tick)), label: "times" },
    { low: 0, high: most, ticks: ticks(most, 4), label: "tokens" }, "Selected tokens by how often they were selected");
  for (const [time, tokens] of reuses) bar(reuse, time - 0.5, time + 0.5, tokens, css("--selected"), `${time}×: ${plural(tokens, "token")}`);
  places[1].replaceChildren(reuse.svg);

  const all = layers.map(agesOf), own = all[layers.indexOf(state.layer)];
  const oldest = Math.max(...all.flat().filter(Boolean).map(age => age.highest)) * 1.05;
  const age = frameOf(420, 220, { low: 0, high: Math.max(chunks.length - 1, 1), ticks: ticks(chunks.length - 1, 6).filter(Number.isInteger), label: "chunk" },
    { low: 0, high: oldest, ticks: ticks(oldest, 4), label: "seconds" }, "Age of selected tokens over time");
  const points = (ages, key) => ages.map((age, i) => age && [i, age[key]]).filter(Boolean);
  for (const ages of all) line(age, points(ages, "mean"), css("--soft"), 1, .35);
  line(age, points(own, "highest"), css("--selected"), 1.2, .8);
  age.svg.lastChild.setAttribute("stroke-dasharray", "4 3");
  line(age, points(own, "mean"), css("--selected"), 2.4, 1);
  line(age, [[state.index, 0], [state.index, oldest]], css("--ink"), 1, .5);
  places[2].replaceChildren(age.svg);
}

/** The recorded attention nearest before a chunk, of one layer. */
function attentionAt(index, layer) {
  for (let i = index; i >= 0; i--) {
    const seen = attentionBy.get(keyOf(chunks[i].chunk, layer));
    if (seen) return seen;
  }
  return null;
}
const meanOf = seen => seen.frames.map((_, i) => seen.shares.reduce((sum, of) => sum + of[i], 0) / seen.shares.length);
const sharesOf = (seen, head) => seen.heads.includes(+head) && head !== "mean" ? seen.shares[seen.heads.indexOf(+head)] : meanOf(seen);

/** What the run at each place of a layer is kept for. */
function rolesOf(chunk, layer) {
  const held = heldAt(chunk, layer), roles = [];
  for (const role of ROLES) for (const [frame, tokens] of runsOf(held, role)) roles.push({ role, frame, tokens });
  return roles;
}

function drawAttention(state) {
  const place = byId("attention"), map = byId("attention-map"), seen = attentionAt(state.index, state.layer);
  map.hidden = !attention.length;
  byId("head-choice").hidden = !attention.length;
  byId("attention-hint").textContent = "";
  if (!attention.length) return empty(place, "Attention was not recorded. `generate --trace FILE --attention 0,3,5` records it for layers 0, 3 and 5.");
  if (!seen) empty(place, `Attention of layer ${state.layer} was not recorded up to this chunk.`);
  else drawShares(place, state, seen);
  drawMap(map, state);
}

function drawShares(place, state, seen) {
  const shares = sharesOf(seen, state.head), total = sumOf(seen.frames), high = Math.max(...shares) * 1.08;
  const chunk = chunks.find(chunk => chunk.chunk === seen.chunk), roles = rolesOf(chunk, state.layer);
  const what = seen.heads.includes(+state.head) && state.head !== "mean" ? `head ${state.head}` : `the mean of ${plural(seen.heads.length, "head")}`;
  byId("attention-hint").textContent = `Share of attention of the queries of chunk ${seen.chunk} at its first denoising step, layer ${seen.layer}, ${what}. `
    + "The marks are what each frame would get if every token got the same.";
  const count = seen.frames.length, few = Math.ceil(count / 26);
  const chart = frameOf(1100, 240, { low: 0, high: count, ticks: [], label: "key frame, in the order of the cache" },
    { low: 0, high, ticks: ticks(high, 4), text: percent, label: "attention" }, "Attention by key frame");
  seen.frames.forEach(([frame, tokens], i) => {
    const role = (roles.find(entry => entry.frame === frame) || { role: "recent" }).role;
    bar(chart, i, i + 1, shares[i], css("--" + role), `frame ${frame} (${ROLE_NAMES[role]}, ${plural(tokens, "token")}): ${percent(shares[i])}`);
    line(chart, [[i + .12, tokens / total], [i + .88, tokens / total]], css("--ink"), 1.5, .8);
    if (i % few === 0) chart.svg.append(node("text", { x: chart.atX(i + .5), y: 240 - chart.edge.bottom + 16, "text-anchor": "middle" }, frame));
  });
  place.replaceChildren(chart.svg);
}

/** Rows of the map: every recorded layer and head. */
const mapRows = state => layers.map(layer => attentionAt(state.index, layer)).filter(Boolean)
  .flatMap(seen => seen.heads.map((head, i) => ({ seen, head, shares: seen.shares[i] })));

function drawMap(canvas, state) {
  const rows = mapRows(state), tall = Math.max(4, Math.min(14, 420 / Math.max(rows.length, 1)));
  const { context, width } = canvasOf(canvas, rows.length * tall + 44);
  const left = 62, frames = Math.max(...rows.map(({ seen }) => Math.max(...seen.frames.map(run => run[0])))) + 1;
  const column = (width - left - 8) / frames;
  rows.forEach(({ seen, head, shares }, row) => {
    const high = Math.max(...shares);
    seen.frames.forEach(([frame], i) => {
      context.fillStyle = ramp(Math.sqrt(shares[i] / high));
      context.fillRect(left + frame * column, 4 + row * tall, Math.max(column - (column > 4 ? .6 : 0), .5), tall - (tall > 5 ? 1 : 0));
    });
    if (seen.layer === state.layer && (state.head === "mean" || +state.head === head)) {
      context.fillStyle = css("--accent");
      context.fillRect(left - 5, 4 + row * tall, 3, tall - 1);
    }
    if (row === 0 || rows[row - 1].seen.layer !== seen.layer) {
      context.fillStyle = css("--soft");
      context.textAlign = "right";
      context.fillText(`layer ${seen.layer}`, left - 8, 4 + row * tall + Math.max(tall - 3, 8));
    }
  });
  context.fillStyle = css("--soft");
  context.textAlign = "center";
  for (const tick of ticks(frames - 1, 10)) {
    if (Number.isInteger(tick)) context.fillText(tick, left + (tick + .5) * column, rows.length * tall + 18);
  }
  context.fillText("key frame; one row for each head, bright where most of its attention goes. Click a row to choose it.", left + (width - left) / 2, rows.length * tall + 36);
  canvas.setAttribute("aria-label", `Attention by key frame of ${plural(rows.length, "head")}`);
  canvas.dataset.tall = tall;
}

const state = { index: eventIndices.length ? eventIndices[eventIndices.length - 1] : chunks.length - 1, layer: layers[0], head: "mean" };

function statusText() {
  const chunk = chunks[state.index], event = eventAt(chunk, state.layer);
  let text = `Chunk ${chunk.chunk} (frames ${chunk.start}–${chunk.start + chunk.frames - 1}, ${secondsOf(chunk.start).toFixed(1)} s): ${heldText(state)}; ${bytes(chunk.bytes)} in all layers.`;
  if (!event) return text + " No room had to be made.";
  text += ` Room made: ${number(event.total / PER_FRAME)} → ${number(event.kept / PER_FRAME)} latent frames`;
  if (event.selected.length) text += `, ${plural(event.slots ? sumTokens(event) : 0, "token")} kept of ${number(event.candidates[1] - event.candidates[0])} candidates`;
  if (event.scores) text += ` with ${percent(event.scores.share)} of the scores' weight (entropy ${event.scores.entropy.toFixed(3)})`;
  return text + `; sink at positions ${sinkText(event)}.`;
}
const sumTokens = event => event.selected.reduce((sum, selected) => sum + selected.tokens, 0);
function sinkText(event) {
  let left = event.sink, first = null, last = null;
  for (const [position, tokens] of event.positions) {
    if (left <= 0) break;
    first = first === null ? position : first;
    last = position;
    left -= tokens;
  }
  return first === null ? "–" : `${first} to ${last}`;
}

function draw() {
  byId("chunk").value = state.index;
  byId("layer").value = layers.indexOf(state.layer);
  byId("chunk-shown").value = chunks[state.index].chunk;
  byId("layer-shown").value = state.layer;
  byId("chunk").setAttribute("aria-valuetext", `chunk ${chunks[state.index].chunk}`);
  byId("layer").setAttribute("aria-valuetext", `layer ${state.layer}`);
  byId("before").disabled = !eventIndices.some(index => index < state.index);
  byId("after").disabled = !eventIndices.some(index => index > state.index);
  byId("status").textContent = statusText();
  for (const view of [drawHeld, drawTop, drawSlots, drawAges, drawAttention]) view(state);
}

function choose(change) {
  Object.assign(state, change);
  state.index = Math.max(0, Math.min(chunks.length - 1, state.index));
  draw();
}
const stepLayer = by => choose({ layer: layers[Math.max(0, Math.min(layers.length - 1, layers.indexOf(state.layer) + by))] });
function stepEvent(by) {
  const index = by > 0 ? eventIndices.find(index => index > state.index) : [...eventIndices].reverse().find(index => index < state.index);
  if (index !== undefined) choose({ index });
}

function begin() {
  const { parameters, shape: { policy } } = DATA;
  byId("prompt").textContent = DATA.prompts.map(prompt => prompt.text).join(" → ");
  const sizes = parameters.map(([name, value]) => `, ${name} ${value}`).join("");
  byId("facts").textContent = `Policy ${policy}, window ${shape.window}${sizes}. ${plural(chunks.length, "chunk")}, ${plural(eventIndices.length, "event")}; `
    + `${shape.layers} layers, ${shape.rows}×${shape.columns} tokens a frame; seed ${DATA.seed}; cache ${bytes(shape["cache-bytes"])}.`;
  byId("notes").replaceChildren(...DATA.notes.map(note => element("li", {}, note)));
  byId("made").textContent = `Recorded by deepforcing ${DATA.deepforcing}.`;
  byId("chunk").max = chunks.length - 1;
  byId("layer").max = layers.length - 1;
  const heads = [...new Set(attention.flatMap(seen => seen.heads))].sort((a, b) => a - b);
  byId("head").append(element("option", { value: "mean" }, "mean"), ...heads.map(head => element("option", { value: head }, head)));

  byId("chunk").addEventListener("input", event => choose({ index: +event.target.value }));
  byId("layer").addEventListener("input", event => choose({ layer: layers[+event.target.value] }));
  byId("head").addEventListener("change", event => choose({ head: event.target.value }));
  byId("before").addEventListener("click", () => stepEvent(-1));
  byId("after").addEventListener("click", () => stepEvent(1));
  for (const id of ["held-colour", "top-all", "slots-all"]) byId(id).addEventListener("change", draw);
  byId("top-more").addEventListener("click", event => {
    event.target.dataset.all = event.target.dataset.all ? "" : "yes";
    draw();
  });
  byId("held").addEventListener("pointermove", event => tipAt(event, (heldUnder(event, state) || {}).text));
  byId("held").addEventListener("pointerleave", event => tipAt(event, ""));
  byId("held").addEventListener("click", event => {
    const under = heldUnder(event, state);
    if (under) choose({ index: under.index });
  });
  byId("attention-map").addEventListener("click", event => {
    const rows = mapRows(state), row = Math.floor((event.offsetY - 4) / +event.target.dataset.tall);
    if (rows[row]) choose({ layer: rows[row].seen.layer, head: String(rows[row].head) }), byId("head").value = state.head;
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const actions = {
      ArrowLeft: () => choose({ index: state.index - 1 }), ArrowRight: () => choose({ index: state.index + 1 }),
      ArrowUp: () => stepLayer(1), ArrowDown: () => stepLayer(-1),
      e: () => stepEvent(1), E: () => stepEvent(-1),
    };
    if (actions[event.key]) event.preventDefault(), actions[event.key]();
  });
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
begin();
