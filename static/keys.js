// A key pair made in the browser: the public half goes into the form, the private half into a file. Nothing else leaves.
"use strict";

const form = document.querySelector("form[data-makes-key]");
const button = form?.querySelector("[data-make-key]");
const field = form?.querySelector("[name=key]");
const told = form?.querySelector("[data-key-told]");

const lines = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).match(/.{1,64}/g).join("\n");

async function make() {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const secret = await crypto.subtle.exportKey("pkcs8", pair.privateKey);
  const pem = `-----BEGIN PRIVATE KEY-----\n${lines(secret)}\n-----END PRIVATE KEY-----\n`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([pem], { type: "application/x-pem-file" }));
  link.download = "agent-key.pem";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  field.value = JSON.stringify({ kty, crv, x, y });
  told.hidden = false;
  form.querySelector("[name=proof][value=browser]").checked = true;
}

button?.addEventListener("click", make);

// Registering without having pressed the button makes the key then, so that nobody is sent back for it.
form?.addEventListener("submit", async (event) => {
  const chosen = form.querySelector("[name=proof]:checked")?.value;
  if (chosen !== "browser" || field.value.trim() || event.defaultPrevented) return;
  event.preventDefault();
  await make();
  setTimeout(() => form.submit(), 400); // the download must have begun before the page leaves
});

// The badge beside the form fills in while one types.
const badge = document.querySelector("[data-preview]");
form?.addEventListener("input", (event) => {
  const shown = badge?.querySelector(`[data-shows=${CSS.escape(event.target.name || "none")}]`);
  if (!shown) return;
  const value = event.target.selectedOptions?.[0]?.textContent.replace(" (me)", "") ?? event.target.value;
  shown.textContent = value.trim() || shown.dataset.empty;
});

// A secret as a file for the program that needs it.
document.querySelector("[data-save]")?.addEventListener("click", (event) => {
  const source = document.getElementById(event.currentTarget.dataset.save);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([source.textContent], { type: "text/plain" }));
  link.download = event.currentTarget.dataset.name;
  link.click();
});
