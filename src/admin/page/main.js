// The frame: pages by the address's fragment, the token, questions to the operator, notices.

import { ApiError, get, post, token } from "./api.js";
import { el, field } from "./dom.js";
import { STATES, moment } from "./words.js";
import * as overview from "./overview.js";
import * as buckets from "./buckets.js";
import * as inventory from "./inventory.js";
import * as explain from "./explain.js";
import * as parked from "./parked.js";
import * as events from "./events.js";
import * as jobs from "./jobs.js";
import * as settings from "./settings.js";

const PAGES = { overview, buckets, inventory, explain, parked, events, jobs, settings };
const content = document.getElementById("content");
const notice = document.getElementById("notice");
const tokenButton = document.getElementById("token");
let turn = 0;
let timer;

/** Where we are: #/page?name=value */
function place() {
  const [name, text = ""] = location.hash.replace(/^#\//, "").split("?");
  return { name: PAGES[name] ? name : "overview", values: new URLSearchParams(text) };
}

async function show() {
  const mine = ++turn;
  clearTimeout(timer);
  const { name, values } = place();
  const page = PAGES[name];
  document.title = `${page.title} – s3-mirror`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const area = el("div", {});
  content.replaceChildren(area);
  const refresh = page.open(area, { values, change, ask, say, go, again: show, shown: () => mine === turn });
  let answered;
  const run = async () => {
    try {
      await refresh();
      answered = Date.now();
      if (mine === turn) area.querySelector(":scope > .unanswered")?.remove();
    } catch (error) {
      if (mine === turn) unanswered(area, error, answered);
    }
    if (mine === turn && page.period) timer = setTimeout(run, document.hidden ? page.period * 5 : page.period);
  };
  await run();
}

/** Says why nothing newer is shown. What is said already is not said again. */
function unanswered(area, error, answered) {
  const text = answered ? `${error.message}. What is shown here is of ${moment(answered)}.` : error.message;
  const said = area.querySelector(":scope > .unanswered");
  if (said?.textContent === text) return;
  said?.remove();
  area.prepend(el("p", { class: "card error unanswered", role: "alert" }, text));
}

/** Shows another place, or this one anew. */
function go(place) {
  if (location.hash === place) show();
  else location.hash = place;
}

/** Tells the operator what happened; what went wrong is read more slowly. */
function say(text, wrong = false) {
  notice.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { notice.textContent = ""; }, wrong ? 30000 : 8000);
}

const dialog = document.getElementById("dialog");
const dialogForm = document.getElementById("dialog-form");
const answerNo = document.getElementById("dialog-no");
const answerYes = document.getElementById("dialog-yes");

/** Asks the operator; true for yes. Whoever was focused is focused again. */
function ask({ title, body, yes, danger = false }) {
  document.getElementById("dialog-title").textContent = title;
  document.getElementById("dialog-body").replaceChildren(...[body].flat());
  answerYes.textContent = yes;
  answerYes.className = danger ? "danger" : "";
  return new Promise((resolve) => {
    const finish = (answer) => {
      dialogForm.removeEventListener("submit", agree);
      dialog.removeEventListener("close", leave);
      answerNo.removeEventListener("click", leave);
      dialog.close();
      resolve(answer);
    };
    const agree = (event) => { event.preventDefault(); finish(true); };
    const leave = () => finish(false);
    dialogForm.addEventListener("submit", agree);
    dialog.addEventListener("close", leave);
    answerNo.addEventListener("click", leave);
    dialog.showModal();
  });
}

async function askToken(why) {
  const input = el("input", { id: "token-input", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const yes = await ask({
    title: "Admin token",
    body: [el("p", {}, why), field("Token", input)],
    yes: "Use it",
  });
  if (yes && input.value.trim()) token.set(input.value.trim());
  showToken();
  return yes;
}

function showToken() {
  tokenButton.textContent = token.get() ? "Forget token" : "Enter token";
}

tokenButton.addEventListener("click", async () => {
  if (token.get()) {
    token.forget();
    showToken();
    say("The token is forgotten.");
  } else {
    await askToken("Looking is free; changing something needs the token of ADMIN_TOKEN. It is kept in this tab until it is closed.");
  }
});

/** Makes a change; asks for the token when it is missing or wrong. The answer, or null. */
async function change(path, body, done) {
  for (;;) {
    try {
      const answer = await post(path, body);
      if (done) say(done(answer));
      return answer;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        token.forget();
        if (await askToken(`This changes something: ${error.message}.`)) continue;
      } else {
        say(`Not done: ${error.message}`, true);
      }
      return null;
    }
  }
}

async function watchState() {
  const badge = document.getElementById("state");
  try {
    const { state } = await get("health");
    const [text, kind] = STATES[state];
    badge.setAttribute("aria-label", `State: ${text}`);
    badge.textContent = text;
    badge.className = `badge ${kind}`;
  } catch {
    badge.setAttribute("aria-label", "State: no answer");
    badge.textContent = "No answer";
    badge.className = "badge bad";
  }
  setTimeout(watchState, document.hidden ? 60000 : 10000);
}

document.getElementById("nav").append(...Object.entries(PAGES).filter(([, page]) => !page.apart).map(([name, page]) =>
  el("a", { href: `#/${name}`, "data-page": name }, page.title)));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
addEventListener("hashchange", () => { show(); scrollTo(0, 0); content.focus({ preventScroll: true }); });
showToken();
show();
watchState();
