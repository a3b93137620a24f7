// What JavaScript adds: copy buttons, local times, one submission for a double click, and the demo's "Fill in".
// Every page works without it.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  const block = document.getElementById(button.dataset.copy);
  const status = document.getElementById("copy-status");
  button.hidden = false;
  button.addEventListener("click", async () => {
    status.textContent = "";
    try {
      await navigator.clipboard.writeText(block.textContent);
      status.textContent = status.dataset.copied;
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 2000);
    } catch {
      // No clipboard outside secure contexts, or not allowed: leave the rest to the keyboard.
      getSelection().selectAllChildren(block);
      block.focus();
      status.textContent = status.dataset.failed;
    }
  });
}

// As the server writes them: day before month, 24 hours.
const language = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" };
const sameDay = new Intl.DateTimeFormat(language, clock);
const otherDay = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", ...clock });

for (const time of document.querySelectorAll("time[data-local-time]")) {
  const moment = new Date(time.dateTime);
  if (moment.getTimezoneOffset() === 0) continue;
  const local = document.createElement("span");
  local.className = "local-time";
  const here = moment.getDate() === moment.getUTCDate() ? sameDay : otherDay;
  local.textContent = here.format(moment);
  time.append(" ", local);
}

for (const form of document.querySelectorAll("form[data-submit-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.submitted) {
      event.preventDefault();
      return;
    }
    form.dataset.submitted = "yes";
    form.querySelector("button[type=submit]").classList.add("busy");
    // A download, a blocked redirect or the back button leaves the page as it is: never lock a form for good.
    setTimeout(() => release(form), 5000);
  });
}

addEventListener("pageshow", () => document.querySelectorAll("form[data-submit-once]").forEach(release));

function release(form) {
  delete form.dataset.submitted;
  form.querySelector("button[type=submit]").classList.remove("busy");
}

for (const tick of document.querySelectorAll("[data-show-passwords]")) {
  const fields = tick.form.querySelectorAll("input[type=password]");
  tick.closest("label").hidden = false;
  const show = () => fields.forEach((field) => { field.type = tick.checked ? "text" : "password"; });
  tick.addEventListener("change", show);
  // Browsers keep what was typed into visible fields for their history of forms, so none is sent visible.
  tick.form.addEventListener("submit", () => { tick.checked = false; show(); });
}

for (const button of document.querySelectorAll("[data-fill-username]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    document.getElementById("username").value = button.dataset.fillUsername;
    document.getElementById("password").value = button.dataset.fillPassword;
    document.querySelector(".sign-in-panel button[type=submit]").focus();
  });
}
