// Refreshes the page once a second: the server renders it, this changes what differs.
"use strict";

(() => {
  const PERIOD = 1000;
  const state = document.getElementById("live");
  let since = null;

  function say(text, isGood) {
    if (state.textContent !== text) state.textContent = text;
    state.className = isGood ? "good" : "bad";
  }

  async function refresh() {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10 * PERIOD) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.querySelector("main");
    if (!main) throw new Error("the director sent another page");
    Idiomorph.morph(document.querySelector("main"), main, { ignoreActiveValue: true });
    document.title = fresh.title;
  }

  async function step() {
    if (document.visibilityState === "visible") {
      try {
        await refresh();
        since = null;
        say("live", true);
      } catch (error) {
        since ??= new Date();
        say(`no answer since ${since.toLocaleTimeString()}: what is shown is old`, false);
      }
    }
    setTimeout(step, PERIOD);
  }

  if (document.body.dataset.live) {
    state.hidden = false;
    setTimeout(step, PERIOD);
  }
})();
