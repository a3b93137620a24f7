// Passkeys: asks the browser for one and sends what it says with the form. Without WebAuthn the rest of the page works.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "");

function asked(question) {
  const options = JSON.parse(question);
  options.challenge = bytes(options.challenge);
  if (options.user) options.user.id = bytes(options.user.id);
  for (const known of [...(options.excludeCredentials ?? []), ...(options.allowCredentials ?? [])]) known.id = bytes(known.id);
  return { publicKey: options };
}

function answered(credential) {
  const response = { clientDataJSON: text(credential.response.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = text(credential.response[name]);
  }
  return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} });
}

if (window.PublicKeyCredential) {
  for (const place of document.querySelectorAll("[data-needs-passkeys]")) place.hidden = false;
  for (const place of document.querySelectorAll("[data-no-passkeys]")) place.hidden = true;
  // What was hidden could have no focus. A code that was refused keeps it: it is typed again.
  if (!document.querySelector("[aria-invalid=true]")) document.querySelector("[data-first]")?.focus();
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const button = form.querySelector("button");
  const status = form.querySelector("[role=status]");
  form.addEventListener("submit", async (event) => {
    if (form.elements.credential.value) return;
    event.preventDefault();
    status.textContent = "";
    button.classList.add("busy");
    try {
      const credential = await navigator.credentials[form.dataset.passkey](asked(form.dataset.question));
      form.elements.credential.value = answered(credential);
      form.submit();
    } catch (error) {
      // Cancelled, too slow, or no key that fits: browsers tell nobody which.
      status.textContent = error.name === "InvalidStateError" ? form.dataset.known : form.dataset.failed;
      button.classList.remove("busy");
      button.focus();
    }
  });
}

// Back from the page that followed: what was answered is worth nothing any more.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
