// Optional: all pages work without it

const asItIs = { createHTML: String };
const policy = self.trustedTypes?.createPolicy("taskapp", asItIs) ?? asItIs;
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const on = addEventListener;
const drafts = sessionStorage;
const busy = new Set();
const isModified = (event) => event.ctrlKey || event.altKey || event.metaKey;
let isLeaving;

async function load(url, request) {
  const response = await fetch(url, request);
  const html = policy.createHTML(await response.text());
  const page = new DOMParser().parseFromString(html, "text/html");
  if (!find("#flash", page)) throw response; // not our page
  return { page, response };
}

function notify(text = document.body.dataset.offline) {
  find("#flash").replaceChildren(document.createElement("p"));
  find("#flash p").append(text);
}

function takeOver(page, ...parts) {
  for (const part of parts) find(part).replaceWith(find(part, page));
  find("#flash").replaceChildren(...find("#flash", page).children);
}

function swap({ page, response }) {
  takeOver(page, "header", "main", "footer");
  document.title = page.title;
  history.replaceState(null, "", response.url);
  prepare(document);
  (find("main [autofocus]") ?? find("#new-title"))?.focus();
}

function flip(task) {
  if (!task) return;
  const isDone = task.classList.toggle("completed");
  const check = find(".check", task);
  check.ariaChecked = isDone;
  check.value = isDone ? "pending" : "completed";
}

async function sendPage(form, sent) {
  const draft = draftOf(form);
  forget(form);
  form.reset();
  const result = await sent;
  if (!result?.response.ok) {
    const shown = all("[data-draft]").find((other) => nameOf(other) === nameOf(form)) ?? form;
    restore(shown, draft);
    keep(shown);
  }
  result ? swap(result) : notify();
}

async function sendStatus(form, sent, url) {
  const task = find(`#task-${url.split("/").at(-2)}`);
  flip(task);
  const result = await sent;
  if (result && find(".filter", result.page)) return takeOver(result.page, ".filter", ".clear");
  if (result?.response.ok) return swap(result);
  flip(task);
  notify(result && find("h1", result.page).textContent);
}

async function sendEdit(form, sent) {
  const task = form.closest(".task");
  const result = await sent;
  if (!result) return notify();
  const editor = find(".editor", result.page);
  if (editor) return openEditor(task, editor);
  if (!find(".filter", result.page)) return swap(result);
  const fresh = find(`#${task.id}`, result.page);
  takeOver(result.page, ".filter", ".clear");
  if (!fresh) return task.remove();
  task.replaceWith(fresh);
  prepare(fresh);
  find(".links a", fresh).focus();
}

const senders = { page: sendPage, status: sendStatus, edit: sendEdit };

on("submit", async (event) => {
  const { target: form, submitter } = event;
  if (form.closest("dialog")) return;
  const sender = senders[form.dataset.send];
  const url = submitter?.getAttribute("formaction") ?? form.action;
  isLeaving = !sender;
  if (/(logout|account.delete)$/.test(url)) drafts.clear();
  if (!sender) return forget(form);
  event.preventDefault();
  if (busy.has(url) && !changed(form).length) return;
  busy.add(url);
  const body = new URLSearchParams(new FormData(form, submitter));
  const sent = load(url, { method: "POST", body }).catch(() => {});
  await sender(form, sent, url);
  busy.delete(url);
});

function openEditor(task, editor) {
  find(".task .editor")?.remove();
  task.append(editor);
  find("form", editor).dataset.send = "edit";
  prepare(editor);
  const field = find("[autofocus]", editor);
  field.focus();
  field.autofocus = false;
}

function closeEditor() {
  const task = find(".task:has(.editor)");
  if (!task) return;
  forget(find("form", task));
  find(".editor", task).remove();
  find(".links a", task).focus();
}

async function edit(link) {
  const { page } = await load(link.href);
  if (!find(".editor", page)) return (location = link.href);
  openEditor(link.closest(".task"), find(".editor", page));
}

async function loadMore(link) {
  const { page } = await load(link.href);
  if (!link.isConnected) return;
  const tasks = all(".task", page);
  if (!tasks.length) return (location = link.href);
  prepare(page);
  takeOver(page, ".next");
  find(".tasks").append(...tasks);
  find(".check", tasks[0]).focus({ preventScroll: true });
}

function showHelp() {
  find("#shortcuts").checked = localStorage.shortcuts !== "false";
  find("#help").showModal();
}

on("click", async (event) => {
  const { target } = event;
  if (target.matches("[data-help]")) showHelp();
  if (target.matches("[data-reveal]")) {
    const isHidden = target.ariaPressed === "false";
    target.ariaPressed = isHidden;
    target.previousElementSibling.type = isHidden ? "text" : "password";
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
  await follow(link)?.catch(() => notify());
});

// Drafts
const nameOf = ({ action, elements }) => action.split("?")[0] + elements.version?.value;
const keep = (form) => (drafts[nameOf(form)] = draftOf(form));
const forget = (form) => delete drafts[nameOf(form)];
const isChanged = (field) => /^text/.test(field.type) && field.value !== field.defaultValue;
const changed = (form) => [...form.elements].filter(isChanged);
const draftOf = (form) => JSON.stringify(changed(form).map(({ name, value }) => [name, value]));

function restore(form, draft = drafts[nameOf(form)] ?? "[]") {
  for (const [name, text] of JSON.parse(draft)) {
    const field = form.elements[name];
    field.value = isChanged(field) && field.value !== text ? `${text} ${field.value}` : text;
    field.closest("details")?.setAttribute("open", "");
  }
}

on("input", ({ target: { form, id, checked } }) => {
  if (id === "shortcuts") localStorage.shortcuts = checked;
  if (form?.matches("[data-draft]")) keep(form);
});

on("beforeunload", (event) => {
  if (isLeaving) return;
  if (all("[data-draft]").some((form) => changed(form).length)) event.preventDefault();
});

// Pasted lines
on("paste", (event) => {
  const text = event.clipboardData.getData("text").trim();
  if (event.target.id !== "new-title" || !/\n/.test(text)) return;
  event.preventDefault();
  const field = find("#titles");
  find("#several").open = true;
  field.value = `${field.value}\n${text}`.trim();
  keep(field.form);
  field.focus();
});

const focused = () => find(".task:focus-within");
const click = (selector) => focused()?.querySelector(selector).click();
const move = (step) =>
  (focused() ? focused()[step] : find(".task"))?.querySelector(".check").focus();
const shortcuts = {
  n: () => find("#new-title").focus(),
  j: () => move("nextElementSibling"),
  k: () => move("previousElementSibling"),
  x: () => click(".check"),
  e: () => click(".links a"),
  "#": () => click(".links a:last-child"),
  "/": () => find(".filter [aria-current]").focus(),
  "?": showHelp,
};

on("keydown", (event) => {
  const { key, target } = event;
  if (event.isComposing || isModified(event)) return;
  if (key === "Escape" && focused()) closeEditor();
  if (target.closest("input, textarea, dialog, .editor") || !find("#help")) return;
  if (localStorage.shortcuts === "false" || !shortcuts[key]) return;
  event.preventDefault();
  shortcuts[key]();
});

function prepare(root) {
  for (const time of all("time", root)) time.title = new Date(time.dateTime).toLocaleString();
  for (const button of all("button[hidden]", root)) button.hidden = false;
  for (const form of all("[data-draft]", root)) restore(form);
}

// Back restores the position
on("pagehide", () => history.replaceState([all(".task").length, scrollY], ""));

prepare(document);
const [count, top] = history.state ?? [0];
while (all(".task").length < count && find("[rel=next]")) {
  await loadMore(find("[rel=next]"));
  scrollTo(0, top);
}
