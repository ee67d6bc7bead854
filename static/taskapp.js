// Saves reloads; all works without it.

const asItIs = { createHTML: (html) => html };
const policy = window.trustedTypes?.createPolicy("taskapp", asItIs) ?? asItIs;
const find = (selector, within = document) => within.querySelector(selector);
const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];
const on = addEventListener;
const busy = new Set();
const isModified = (event) => event.ctrlKey || event.altKey || event.metaKey;
let isLeaving = false;
let loaded = 0;

async function load(address, request) {
  const response = await fetch(address, request);
  const html = policy.createHTML(await response.text());
  return { page: new DOMParser().parseFromString(html, "text/html"), response };
}

function say(text = document.body.dataset.offline) {
  const paragraph = Object.assign(document.createElement("p"), { textContent: text });
  find("#notice").replaceChildren(paragraph);
}

function takeOver(page, ...selectors) {
  for (const selector of selectors) find(selector).replaceWith(find(selector, page));
  find("#notice").replaceChildren(...find("#notice", page).children);
}

function swap({ page, response }) {
  takeOver(page, "header", "main", "footer");
  document.title = page.title;
  if (response.redirected) history.replaceState(null, "", response.url);
  loaded = 0;
  prepare(document);
  find("main [autofocus]")?.focus();
}

function flip(task) {
  if (!task) return;
  const isCompleted = task.classList.toggle("completed");
  const check = find(".check", task);
  check.ariaChecked = isCompleted;
  check.value = isCompleted ? "pending" : "completed";
}

async function sendPage(form, send) {
  const draft = draftOf(form);
  forget(form);
  form.reset();
  const answer = await send();
  if (answer) return swap(answer);
  sessionStorage[nameOf(form)] = draft;
  restore(form);
  say();
}

async function sendStatus(form, send, address) {
  const task = document.getElementById(`task-${address.split("/").at(-2)}`);
  flip(task);
  const answer = await send();
  if (answer && find(".filter", answer.page)) return takeOver(answer.page, ".filter", ".clear");
  if (answer?.response.ok) return swap(answer);
  flip(task);
  say(answer && find("h1", answer.page).textContent);
}

async function sendEdit(form, send) {
  const task = form.closest(".task");
  const answer = await send();
  if (!answer) return say();
  const editor = find(".editor", answer.page);
  if (editor) return openEditor(task, editor);
  if (!find(".filter", answer.page)) return swap(answer);
  const fresh = answer.page.getElementById(task.id);
  takeOver(answer.page, ".filter", ".clear");
  if (!fresh) return task.remove();
  task.replaceWith(fresh);
  prepare(fresh);
  find(".links a", fresh).focus();
}

const senders = { page: sendPage, status: sendStatus, edit: sendEdit };

on("submit", async (event) => {
  const { target: form, submitter } = event;
  const sender = senders[form.dataset.send];
  const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action") ?? "";
  isLeaving = !sender;
  if (/(logout|account.delete)$/.test(address)) sessionStorage.clear();
  if (!sender) return;
  event.preventDefault();
  if (busy.has(address)) return;
  busy.add(address);
  const body = new URLSearchParams(new FormData(form, submitter));
  const send = () => load(address, { method: "POST", body }).catch(() => {});
  await sender(form, send, address);
  busy.delete(address);
});

function openEditor(task, editor) {
  closeEditor();
  task.append(editor);
  find("form", editor).dataset.send = "edit";
  prepare(editor);
  find("[autofocus]", editor).focus();
}

function closeEditor() {
  const editor = find(".task .editor");
  if (!editor) return;
  const link = find(".links a", editor.parentElement);
  forget(find("form", editor));
  editor.remove();
  link.focus();
}

async function edit(link) {
  const { page } = await load(link.href);
  const editor = find(".editor", page);
  if (!editor) return location.assign(link.href);
  openEditor(link.closest(".task"), editor);
}

async function loadMore(link) {
  const { page } = await load(link.href);
  const tasks = findAll(".task", page);
  if (!tasks.length) return location.assign(link.href);
  prepare(page);
  takeOver(page, ".next");
  find(".tasks").append(...tasks);
  loaded += 1;
  find(".check", tasks[0]).focus({ preventScroll: true });
}

on("click", async (event) => {
  const { target } = event;
  if (target.matches("[data-help]")) find("#help").showModal();
  if (target.matches("[data-reveal]")) {
    const field = target.previousElementSibling;
    const isShown = field.type === "text";
    field.type = isShown ? "password" : "text";
    target.ariaPressed = !isShown;
  }
  const link = target.closest("a");
  if (!link || event.shiftKey || isModified(event)) return;
  const follow =
    (link.rel === "next" && loadMore) ||
    (link.matches(".links :first-child") && edit) ||
    (link.closest(".task .editor") && closeEditor);
  isLeaving = !follow;
  if (!follow) return;
  event.preventDefault();
  await follow(link)?.catch(() => say());
});

// Unsaved text is kept in this tab until it is sent or given up
const nameOf = ({ action, elements }) => action.split("?")[0] + elements.version?.value;
const keep = (form) => (sessionStorage[nameOf(form)] = draftOf(form));
const forget = (form) => delete sessionStorage[nameOf(form)];
const isChanged = (field) => /^text/.test(field.type) && field.value !== field.defaultValue;
const changedOf = (form) => [...form.elements].filter(isChanged);
const draftOf = (form) =>
  JSON.stringify(changedOf(form).map(({ name, value }) => [name, value]));

function restore(form) {
  for (const [name, text] of JSON.parse(sessionStorage[nameOf(form)] ?? "[]")) {
    const field = form.elements[name];
    field.value = text;
    field.closest("details")?.setAttribute("open", "");
  }
}

on("input", ({ target: { form, id, checked } }) => {
  if (id === "shortcuts") localStorage.shortcuts = checked ? "on" : "off";
  if (form?.matches("[data-draft]")) keep(form);
});

on("beforeunload", (event) => {
  const isUnsaved = findAll("[data-draft]").some((form) => changedOf(form).length);
  if (isUnsaved && !isLeaving) event.preventDefault();
});

// Lines pasted where one task goes are shown before they become several.
on("paste", (event) => {
  const text = event.clipboardData.getData("text").trim();
  if (event.target.id !== "new-title" || !/[\r\n]/.test(text)) return;
  event.preventDefault();
  const field = find("#titles");
  field.closest("details").open = true;
  field.value = text;
  keep(field.form);
  field.focus();
});

const here = () => document.activeElement.closest(".task");
const click = (selector) => here()?.querySelector(selector).click();
const move = (step) => (here() ? here()[step] : find(".task"))?.querySelector(".check").focus();
const shortcuts = {
  n: () => find("#new-title").focus(),
  j: () => move("nextElementSibling"),
  k: () => move("previousElementSibling"),
  x: () => click(".check"),
  e: () => click(".links a"),
  "#": () => click(".links a:last-child"),
  "/": () => find(".filter [aria-current]").focus(),
  "?": () => find("#help").showModal(),
};

on("keydown", (event) => {
  const { key, target } = event;
  if (event.isComposing || isModified(event)) return;
  if (key === "Escape") closeEditor();
  if (target.closest("input, textarea, dialog") || !find("#help")) return;
  if (localStorage.shortcuts === "off" || !shortcuts[key]) return;
  event.preventDefault();
  shortcuts[key]();
});

function prepare(within) {
  for (const time of findAll("time", within)) time.title = new Date(time.dateTime).toLocaleString();
  for (const button of findAll("button[hidden]", within)) button.hidden = false;
  for (const form of findAll("[data-draft]", within)) restore(form);
  for (const box of findAll("#shortcuts", within)) box.checked = localStorage.shortcuts !== "off";
}

// Back finds the place again.
on("pagehide", () => history.replaceState([loaded, scrollY], ""));

prepare(document);
const [pages, top] = history.state ?? [0];
while (loaded < pages && find("[rel=next]")) await loadMore(find("[rel=next]"));
if (pages) scrollTo(0, top);
