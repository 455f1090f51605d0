"use strict";
// The videos side by side, led by one clock.
(() => {
  const { element, data, state, byId } = report;
  const [box, bar, scrub, clock, play, speed] = ["players", "transport", "scrub", "clock", "play", "speed"].map(byId);
  /** Seconds that a video may be away from the others: less is evened out by its speed, more by a jump. */
  const [EVEN, JUMP] = [0.04, 0.35];
  let videos = [];
  let playing = false;
  let picture = 1 / 16;

  const WHY = {
    missing: "the file is not in the folder",
    damaged: "the file is damaged",
    unplayable: "browsers do not play files of this form",
  };

  function frame(video, number) {
    const ratio = `aspect-ratio:${video?.width ?? 16}/${video?.height ?? 9}`;
    if (!video || video.state !== "there") {
      const why = video ? WHY[video.state] : "not rendered yet";
      return element("div", { class: "frame", style: ratio }, element("div", { class: "absent" }, why));
    }
    const made = element("video", { src: video.src, preload: "auto", playsinline: "", "data-video": number });
    made.muted = true;
    made.setAttribute("aria-label", `${data.rows[video.row].label}: ${video.title}`);
    made.addEventListener("loadedmetadata", () => seekOne(made));
    made.addEventListener("seeked", () => { if (made.wanted !== undefined) seekOne(made); });
    made.addEventListener("error", () => {
      made.replaceWith(element("div", { class: "absent" }, "the browser cannot play this file"));
      videos = videos.filter((other) => other !== made);
    });
    videos.push(made);
    return element("div", { class: "frame", style: ratio }, made);
  }

  function player(row) {
    const number = report.video(row);
    const video = data.videos[number];
    const name = element("span", { class: "name" }, data.rows[row].label);
    const caption = element("figcaption", {}, report.swatch(row), name);
    if (video && video.state !== "missing") caption.append(element("a", { href: video.src, title: video.file }, "file"));
    return element("figure", { class: "player" }, frame(video, number), caption);
  }

  function draw() {
    stop();
    // A video that is no longer shown must not go on loading.
    for (const old of videos) {
      old.removeAttribute("src");
      old.load();
    }
    videos = [];
    const rows = report.shown().filter((row) => !data.rows[row].skipped);
    const made = rows.map(player);
    box.replaceChildren(...(made.length ? made : [element("p", { class: "empty" }, "Choose what to show above.")]));
    box.style.setProperty("--tile", rows.length > 4 ? "16rem" : "22rem");
    const first = data.videos[report.video(rows.find((row) => report.video(row) !== undefined))];
    picture = 1 / (first?.fps ?? 16);
    const text = data.prompts[state.prompt].text || (rows.length === 1 ? first?.title : "");
    byId("video-caption").textContent = text ?? "";
    scrub.max = report.seconds() || 1;
    scrub.step = picture;
    bar.hidden = !videos.length;
    report.goTo(state.time);
  }

  /** Brings a video to the moment of the clock; while it is on its way, the newest wish is kept. */
  function seekOne(video) {
    video.wanted = undefined;
    if (video.readyState === 0) return;
    if (video.seeking) {
      video.wanted = true;
      return;
    }
    // Half a picture on, so that rounding cannot show the one before.
    const last = Math.max(0, (video.duration || 0) - picture / 2);
    const target = Math.min(state.time + picture / 4, last);
    if (Math.abs(video.currentTime - target) > 1e-3) video.currentTime = target;
  }

  function show() {
    scrub.value = state.time;
    const text = `${state.time.toFixed(1)} of ${report.seconds().toFixed(1)} s`;
    clock.textContent = text;
    scrub.setAttribute("aria-valuetext", text);
    if (!playing) videos.forEach(seekOne);
  }

  function sign() {
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function start() {
    if (!videos.length) return;
    if (state.time >= report.seconds() - picture) jump(0);
    playing = true;
    sign();
    videos.forEach((video) => {
      video.playbackRate = Number(speed.value);
      video.play().catch(() => {});
    });
    requestAnimationFrame(step);
  }

  function stop() {
    playing = false;
    sign();
    videos.forEach((video) => video.pause());
  }

  /** Goes somewhere while playing or not. */
  function jump(time) {
    const was = playing;
    playing = false;
    report.goTo(time);
    playing = was;
  }

  /** The longest video leads; the others are kept with it. */
  function step() {
    if (!playing) return;
    const running = videos.filter((video) => !video.ended && video.readyState > 0);
    if (!running.length) {
      if (!byId("loop").checked) {
        stop();
        report.goTo(report.seconds());
        return;
      }
      jump(0);
      videos.forEach((video) => video.play().catch(() => {}));
    } else {
      const leader = running.reduce((a, b) => (b.duration > a.duration ? b : a));
      state.time = leader.currentTime;
      running.forEach((video) => follow(video, leader));
      report.tell("time");
    }
    requestAnimationFrame(step);
  }

  function follow(video, leader) {
    const rate = Number(speed.value);
    const behind = leader.currentTime - video.currentTime;
    if (video === leader || Math.abs(behind) < EVEN) video.playbackRate = rate;
    else if (Math.abs(behind) > JUMP && !video.seeking) video.currentTime = leader.currentTime;
    else video.playbackRate = rate * (1 + Math.sign(behind) * 0.1);
  }

  const toggle = () => (playing ? stop() : start());
  const byPictures = (count) => {
    stop();
    report.goTo(state.time + count * picture);
  };
  play.addEventListener("click", toggle);
  byId("back").addEventListener("click", () => byPictures(-1));
  byId("forward").addEventListener("click", () => byPictures(1));
  scrub.addEventListener("input", () => jump(Number(scrub.value)));
  speed.addEventListener("change", () => videos.forEach((video) => (video.playbackRate = Number(speed.value))));
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input, select, button, a, summary, [tabindex]");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "," || event.key === ".") byPictures(event.key === "," ? -1 : 1);
    else if (!writing && event.key === " " && !bar.hidden) toggle();
    else return;
    event.preventDefault();
  });
  report.on("time", show);
  report.on("choice", draw);
})();
