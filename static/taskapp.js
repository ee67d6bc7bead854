// Optional: all pages work without it. docs/design-system.md says how it works.

// Milliseconds for a response
const MAX_WAIT = 30_000;
// Milliseconds after which a list is renewed
const AWAY = 60_000;
// Milliseconds after the last tick, in which it can be taken back where it was made
const PAUSE = 2_000;
// What the Escape key may throw away
const FEW = 40;

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const on = addEventListener;
const hasFocus = (element) => element.contains(document.activeElement);
const isIdle = () => document.activeElement === document.body;
const focus = (element) => element?.focus({ preventScroll: true });
const here = () => location.href.split("#")[0];
const fill = (element, ...children) => element.replaceChildren(...children);
const accountOf = (page) => page.body.dataset.account ?? "";
const account = accountOf(document);
const flash = find("#flash");
const fold = byId("completed");
const lists = all(".tasks");
const [list] = lists;
// The link to what is not loaded yet of a list
const more = (part) => find("[rel=next]", part.parentElement);

// Requests

// Requests so far: each has a number
let issued = 0;
// The number of the newest list that is shown
let shown = 0;
// Changes without a response
let underway = 0;
// Whether the newest list may lack a change
let mustRenew = false;
// By an input method
let isComposing = false;

// XMLHttpRequest makes a document of the response; its scripts do not run.
async function load(url, body) {
  const number = ++issued;
  const request = new XMLHttpRequest();
  request.open(body ? "POST" : "GET", url);
  request.responseType = "document";
  request.timeout = MAX_WAIT;
  request.send(body);
  await new Promise((end) => (request.onloadend = end));
  const { response: page, status, responseURL } = request;
  // An error, too, if there is no page
  if (!find("#flash", page)) throw status;
  if (isComposing) await new Promise((end) => on("compositionend", end, { once: true }));
  prepare(page);
  return { number, page, status, url: responseURL };
}

// Any change can be sent again: it names a key, a version, or the status it wants.
async function post(url, fields) {
  const send = () => load(url, new URLSearchParams(fields));
  mustRenew ||= underway > 0;
  underway += 1;
  try {
    const result = await send().catch(send);
    if (!result.page.body.dataset.csrfToken || !isOurs(result)) return result;
    takeToken(result.page);
    fields.csrf_token = token();
    return await send();
  } catch {
    // There is no response.
  } finally {
    underway -= 1;
  }
}

const token = (page) => find("[name=csrf_token]", page).value;
const isOurs = ({ page }) => accountOf(page) === account;
const isList = (result) => result?.status === 200 && find(".filter", result.page);
const isLogin = (result) => result && find("form[action$='/login']", result.page);

function takeToken(page) {
  for (const field of all("[name=csrf_token]")) field.value = token(page);
}

// The notice

let noticed = 0;

function notify(template, text) {
  const notice = clone(template);
  if (text) find("p", notice).textContent = text;
  flash.className = "flash";
  fill(flash, notice);
}

const clone = (template) => byId(template).content.firstElementChild.cloneNode(true);

// Whoever types is not led to the login page; drafts wait for the same account.
function explain(result) {
  if (!result) notify("offline");
  else if (isLogin(result)) hasTyped() ? notify("ended") : leave(result.url);
  else if (result.status === 403) notify("outdated");
  else notify("offline", reasonOf(result));
}

const reasonOf = ({ page }) =>
  find("main .error, h1:not(.visually-hidden)", page).textContent.trim();

// Beside an open editor, a confirmation is for the ears only.
function takeNotice({ number, page }) {
  const notice = find("#flash > *", page);
  if (!notice || number < noticed) return;
  noticed = number;
  flash.className = find(".task .editor") ? "visually-hidden" : "flash";
  fill(flash, notice);
}

function take(result) {
  takeList(result);
  takeNotice(result);
}

// The list: a response inserts, renews and removes single rows

// Id of a row: older responses know less of it
const stamps = new Map();
// Ids of rows that left the filter, and stay until the next page
const staying = new Set();

const stamp = (id) => stamps.set(id, issued);
const isSelected = (row) => !getSelection().isCollapsed && getSelection().containsNode(row, true);
const isInHand = (row, number) =>
  stamps.get(row.id) > number || wishes.has(row.id) || find(".editor", row) || isSelected(row);

function takeList(result) {
  const { number, page, url } = result;
  if (!isOurs(result)) return leave(location.href);
  if (number < shown) return (mustRenew = true);
  shown = number;
  takeToken(page);
  takeCounts(page);
  keepPlace(() => {
    for (const fresh of all(".task", page)) renewRow(byId(fresh.id), fresh, number);
    if (url === here()) takeRows(page, number);
  });
}

function takeCounts(page) {
  const counts = all(".count", page);
  // The last one is that of the completed ones, also beside the fold.
  const last = counts.at(-1);
  for (const count of all(".count")) count.textContent = (counts.shift() ?? last).textContent;
  for (const part of all("#completed, .clear")) part.hidden = last.textContent === "0";
  document.title = page.title;
}

function renewRow(row, fresh, number) {
  if (!row || isInHand(row, number)) return;
  row.className = fresh.className;
  if (find("[open]", row)) find("details", fresh)?.setAttribute("open", "");
  for (const { name, value } of find(".check", fresh).attributes) {
    find(".check", row).setAttribute(name, value);
  }
  for (const part of [".text", ".links"]) {
    if (!hasFocus(find(part, row))) find(part, row).replaceWith(find(part, fresh));
  }
}

function takeRows(page, number) {
  for (const row of all(".saved")) row.remove();
  const fresh = all(".tasks", page);
  const ids = all(".task", page).map(({ id }) => id);
  for (const part of lists) takePart(part, fresh.shift(), ids, number);
  find(".empty")?.remove();
  if (!find("li", list)) list.after(find(".empty", page) ?? "");
}

function takePart(part, page, ids, number) {
  const fresh = all(".task", page);
  const next = more(page);
  const isHere = ({ id }) => part.contains(byId(id));
  const isHeld = (row) => staying.has(row.id) || isInHand(row, number) || hasFocus(row);
  const isGap = next && !fresh.some(isHere);
  let last = all(".unsaved", part).at(-1);
  for (const row of fresh) {
    const known = byId(row.id);
    if (!known) stamp(row.id);
    if (!known || !(isHere(row) || isHeld(known))) {
      last ? last.after(known ?? row) : part.prepend(known ?? row);
    }
    if (isHere(row)) last = byId(row.id);
  }
  const old = all(".task", part);
  const end = isGap || !next ? undefined : Math.max(0, old.indexOf(last));
  for (const row of old.slice(0, end)) if (!ids.includes(row.id) && !isHeld(row)) row.remove();
  if (end === undefined) fill(find(".next", part.parentElement), next ?? "");
}

// What is looked at stays where it is, whatever changes above it.
function keepPlace(change, moved) {
  const isSeen = (part) => part !== moved && part.getBoundingClientRect().bottom > 0;
  const anchor = all(".add, .task").find(isSeen);
  const top = anchor?.getBoundingClientRect().top;
  change();
  if (anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - top);
}

async function renew() {
  const result = await load(here()).catch(() => {});
  if (isList(result)) takeList(result);
  else if (isLogin(result)) explain(result);
}

async function settle() {
  if (underway || !mustRenew) return;
  mustRenew = false;
  await renew();
}

function leave(url) {
  isLeaving = true;
  location = url;
}

// Ticks: shown at once, one request at a time for each task, and the last wish counts

// Id of a row: what is to be sent
const wishes = new Map();

function showStatus(id, status) {
  const row = byId(id);
  if (!row) return;
  const check = find(".check", row);
  const isDone = status === "completed";
  row.classList.toggle("completed", isDone);
  check.setAttribute("aria-checked", isDone);
  check.value = isDone ? "pending" : "completed";
}

async function sendStatus(form, fields, url) {
  const id = `task-${url.split("/").at(-2)}`;
  fill(flash);
  const isBusy = wishes.has(id);
  let stored = byId(id)?.classList.contains("completed") ? "completed" : "pending";
  wishes.set(id, { url, fields });
  staying.add(id);
  showStatus(id, fields.status);
  if (isBusy) return;
  await saving.get(id);
  let result;
  let sent;
  do {
    sent = wishes.get(id).fields;
    result = await post(url, sent);
    if (isList(result)) stored = sent.status;
  } while (wishes.get(id).fields.status !== sent.status);
  wishes.delete(id);
  if (isList(result)) take(result);
  else {
    showStatus(id, stored);
    refuseRow(byId(id), result);
  }
  stamp(id);
  tidyLater();
  await settle();
}

// The fold: a task goes to the list of its status, unless somebody is at it

let tidying;

function tidyLater() {
  clearTimeout(tidying);
  if (fold) tidying = setTimeout(tidy, PAUSE);
}

function tidy() {
  for (const id of staying) {
    const row = byId(id);
    if (row && (isInHand(row, Infinity) || find(":focus-visible", row))) continue;
    staying.delete(id);
    if (row) takeAway(row, () => putInPlace(row));
  }
  if (staying.size) tidyLater();
  if (!find("li", list)) renew();
}

// The latest completion is on top; pending ones are in the order of their ids.
function putInPlace(row) {
  const isDone = row.classList.contains("completed");
  if (fold.contains(row) === isDone) return;
  if (isDone) return lists[1].prepend(row);
  find(".empty")?.remove();
  const older = all(".task", list).find(({ id }) => id < row.id);
  if (older) older.before(row);
  else more(list) ? row.remove() : list.append(row);
}

function refuseRow(row, result) {
  if (result?.status === 404 && row) takeAway(row, () => row.remove());
  explain(result);
}

// The row beside it gets the focus that it had.
function takeAway(row, change) {
  const beside = row.nextElementSibling ?? row.previousElementSibling;
  const hadFocus = hasFocus(row);
  keepPlace(change, row);
  if (hadFocus && beside && !hasFocus(row)) focus(find(".check", beside));
}

// New tasks: each has its row at once, and waits in the outbox until it is saved

// { fields, row }, the oldest first
let outbox = [];
let isSending = false;

const outboxName = `${account} outbox`;
const newKey = () => `${Date.now()}-${Math.random()}`;

function sendAdd(form, fields) {
  const { title, description } = fields;
  if (!title.trim()) return sendInPlace(form, fields);
  clear(form);
  hold({ key: newKey(), title, description });
  return sendOutbox();
}

function hold(fields) {
  outbox.push({ fields, row: showUnsaved(fields) });
  store(outboxName, outbox);
}

function takeOut(item) {
  outbox = outbox.filter((other) => other !== item);
  store(outboxName, outbox);
}

function showUnsaved({ title, description }) {
  const row = clone("unsaved");
  find(".title", row).textContent = title;
  find(".whole", row).textContent = description;
  find(".check", row).setAttribute("aria-label", title);
  keepPlace(() => list.prepend(row));
  find(".empty")?.remove();
  return row;
}

function showReason({ row }, reason) {
  row.setAttribute("aria-busy", !reason);
  find(".error", row).textContent = reason;
  find(".links", row).hidden = !reason;
}

async function sendOutbox() {
  if (isSending) return;
  isSending = true;
  const waiting = () => outbox.filter(({ isRefused }) => !isRefused);
  for (const item of waiting()) showReason(item, "");
  while (waiting().length) {
    const [item] = waiting();
    const result = await post(byId("add").action, { csrf_token: token(), ...item.fields });
    if (isList(result)) {
      takeOut(item);
      item.row.classList.add("saved");
      take(result);
    } else if ([400, 413].includes(result?.status)) {
      refuse(item, result);
    } else {
      stop(waiting(), result);
      break;
    }
  }
  isSending = false;
  await settle();
}

// It goes back into the form, unless something else stands there by now.
function refuse(item, result) {
  const form = byId("add");
  item.isRefused = true;
  fill(flash);
  if (changed(form).length) return showReason(item, reasonOf(result));
  putBack(item);
  sayWhy(form, result);
}

function sayWhy(form, result) {
  if (result?.status === 400) showErrors(form, result.page);
  else explain(result);
}

function putBack(item) {
  const form = byId("add");
  takeOut(item);
  item.row.remove();
  restore(form, Object.entries(item.fields));
  keep(form);
}

function stop(items, result) {
  if (isLogin(result) && items.length === 1 && !hasTyped()) {
    putBack(items[0]);
    return sendAsPage(byId("add"));
  }
  explain(result);
  for (const item of items) showReason(item, find("p", flash).textContent);
}

// The login page and the one after it keep what a form sent.
function sendAsPage(form) {
  isLeaving = true;
  forget(form);
  form.submit();
}

// Several lines stay in their form until the response, which may name a wrong one.
async function sendInPlace(form, fields) {
  const body = JSON.stringify(fields);
  if (isEmpty(form) || onTheirWay.get(form) === body) return;
  onTheirWay.set(form, body);
  const lines = (fields.titles ?? "").split("\n").filter((line) => line.trim());
  const unsaved = lines.reverse().map((title) => showUnsaved({ title }));
  const result = await post(form.action, fields);
  onTheirWay.delete(form);
  for (const row of unsaved) isList(result) ? row.classList.add("saved") : row.remove();
  if (isList(result)) {
    take(result);
    if (form.elements.titles?.value === fields.titles) clear(form);
  } else if (isLogin(result)) sendAsPage(form);
  else sayWhy(form, result);
  await settle();
}

const textFields = (form) => [...form.elements].filter(({ type }) => /^text/.test(type));
const isEmpty = (form) => !textFields(form).some((field) => isChanged(field) || field.value.trim());

function showErrors(form, page) {
  for (const field of textFields(form)) {
    const id = `${field.id}-error`;
    const line = field.closest(".line") ?? field;
    const error = page?.getElementById(id);
    byId(id)?.remove();
    field.setAttribute("aria-invalid", !!error);
    line.classList.toggle("refused", !!error);
    if (error) line.after(error);
    const ids = [`${field.id}-hint`, id].filter(byId);
    field.setAttribute("aria-describedby", ids.join(" "));
    if (!ids[0]) field.removeAttribute("aria-describedby");
    if (error && hasFocus(form)) focus(field);
  }
}

function clear(form) {
  const hadFocus = [...form.elements].some(hasFocus);
  forget(form);
  showErrors(form);
  for (const field of textFields(form)) field.value = field.defaultValue = field.style.height = "";
  form.elements.key.value = newKey();
  for (const part of all(".more [open]")) part.open = false;
  if (form.elements.version) {
    form.elements.version.remove();
    history.replaceState(null, "", form.action);
    restore(form);
  }
  if (hadFocus) focus(byId("new-title"));
}

// The editor, in the row

// Id of a row: the last request of its editor
const saving = new Map();
// The link to an editor that was followed last
let lastLink;
// Opens the editor that was closed or could not be opened, with its text
let reopen;

async function edit(link) {
  const row = link.closest(".task");
  const opener = document.activeElement;
  lastLink = link;
  await saving.get(row.id);
  const result = await load(link.href);
  const editor = find(".editor", result.page);
  if (lastLink !== link) return;
  if (editor) openEditor(row, editor, isIdle() || hasFocus(opener));
  else refuseRow(row, result);
}

// The title alone, in its line: Enter and leaving save, Escape gives up.
async function editTitle(row) {
  lastLink = undefined;
  await saving.get(row.id);
  const editor = clone("title-editor");
  const form = find("form", editor);
  form.action = find(".links a", row).href;
  find("textarea", form).textContent = find(".title", row).textContent;
  openEditor(row, editor, true);
}

async function onFocusOut(event) {
  const form = event.target.closest("[data-send=title]");
  // Chromium tells it of what is being removed, too.
  await null;
  // Whoever looks at another window is still there.
  if (form?.isConnected && document.hasFocus()) save({ form }, event);
}

// Whoever is elsewhere by now keeps the focus, and the editor that is open there.
function openEditor(row, editor, isAwaited) {
  const other = find(".task .editor");
  if (other && !isAwaited && !row.contains(other)) return;
  if (other) hideEditor();
  if (isAwaited) fill(flash);
  const form = find("form", editor);
  const field = find("[autofocus]", editor) ?? find("[name=title]", editor);
  field.autofocus = false;
  row.dataset.editor = form.dataset.send;
  row.append(editor);
  restore(form);
  if (isAwaited) toEnd(field);
}

function hideEditor() {
  const editor = find(".task .editor");
  delete editor.parentElement.dataset.editor;
  editor.remove();
}

async function closeEditor() {
  const editor = find(".task .editor");
  const row = editor.parentElement;
  const form = find("form", editor);
  const typed = changed(form).map(({ value }) => value).join();
  const hadFocus = hasFocus(editor);
  if (typed.length <= FEW) forget(form);
  hideEditor();
  if (typed) offer(row, editor);
  if (hadFocus) find(".links a", row).focus();
}

function offer(row, editor) {
  reopen = () => openEditor(row, editor, true);
  notify("kept");
}

async function sendEdit(form, fields) {
  const row = form.closest(".task");
  const editor = find(".editor", row);
  const link = find(".links a", row);
  const hadFocus = hasFocus(row);
  hideEditor();
  const title = find(".title", row);
  fields.was = title.textContent;
  title.textContent = fields.title;
  row.setAttribute("aria-busy", true);
  if (hadFocus) focus(link);
  const request = post(form.action, fields);
  saving.set(row.id, request);
  stamp(row.id);
  const result = await request;
  row.removeAttribute("aria-busy");
  if (isList(result)) {
    forget(form);
    take(result);
  } else {
    title.textContent = fields.was;
    refuseEdit(row, editor, result, isIdle() || hasFocus(link));
  }
  await settle();
}

// What is wrong stands in the row, with the text; or the notice offers it to whoever edits another.
function refuseEdit(row, editor, result, isAwaited) {
  const answer = result && find(".editor", result.page);
  const form = answer ?? editor;
  openEditor(row, form, isAwaited);
  if (!answer) explain(result);
  if (!row.contains(form)) offer(row, form);
}

// More rows, and the place in the list

// Whether somebody works in the page while its rows are loaded
let isTouched = false;

async function loadMore(link) {
  const result = await load(link.href);
  if (!link.isConnected) return;
  if (!isList(result)) return explain(result);
  const fresh = all(".task", result.page).filter(({ id }) => !byId(id));
  const isAwaited = isIdle() || hasFocus(link);
  lists.find((part) => more(part) === link).append(...fresh);
  fill(link.parentElement, find("[rel=next]", result.page) ?? "");
  if (isAwaited && fresh[0]) focus(find(".check", fresh[0]));
}

const count = (part) => all(".task", part).length;
const placeName = `${account} place ${here()}`;

function storePlace() {
  if (!account || isLoggedOut) return;
  const row = focusedRow();
  const ids = [row, row?.nextElementSibling, row?.previousElementSibling].map((each) => each?.id);
  store(placeName, [lists.map(count), fold?.open, scrollY, ids]);
}

// Back, a reload, and what leads back from a page of a task or from a form of this page
function isReturn() {
  const from = document.referrer;
  const { type } = performance.getEntriesByType("navigation")[0] ?? {};
  const isBetween = from.startsWith(`${here().split(/[?#]/)[0]}/`);
  return (type && type !== "navigate") || isBetween || from === here();
}

async function returnToPlace() {
  const [counts, isOpen, top, ids] = isReturn() ? stored(placeName) : [];
  if (!counts) return location.hash || !isIdle() || focus(byId("new-title"));
  for (const type of ["wheel", "pointerdown", "keydown"]) on(type, () => (isTouched = true));
  if (fold) fold.open = isOpen;
  for (const part of lists) {
    const wanted = counts.shift();
    while (count(part) < wanted && more(part)) await follow(more(part), loadMore);
  }
  if (isTouched) return;
  const row = ids.map(byId).find(Boolean);
  if (row) focus(find(".check", row));
  scrollTo(0, top);
}

// Drafts belong to an account

const LOGOUT = "logout";
let isLoggedOut = false;
const nameOf = ({ action, elements }) =>
  `${account} ${action.split(/[?#]/)[0]}${elements.version?.value ?? ""}`;
const isChanged = (field) => field.value !== field.defaultValue;
const changed = (form) => textFields(form).filter(isChanged);
const forget = (form) => delete sessionStorage[nameOf(form)];
const hasTyped = () => all("[data-draft]").some((form) => changed(form).length);

const stored = (name) => JSON.parse(sessionStorage[name] ?? "[]");

function store(name, items) {
  try {
    if (items.length) sessionStorage[name] = JSON.stringify(items);
    else delete sessionStorage[name];
  } catch {
    // The storage is full: what was typed is still in its field.
  }
}

function keep(form) {
  store(nameOf(form), changed(form).map(({ name, value }) => [name, value]));
}

function restore(form, texts = stored(nameOf(form))) {
  for (const [name, text] of texts) {
    const field = form.elements[name];
    if (field.value === text) continue;
    if (isChanged(field)) field.setRangeText(`${text} `, 0, 0, "preserve");
    else field.value = text;
    field.closest("details")?.setAttribute("open", "");
  }
  grow();
}

function dropOthers() {
  for (const name of Object.keys(sessionStorage)) {
    if (account && name !== LOGOUT && !name.startsWith(`${account} `)) delete sessionStorage[name];
  }
  if (account || !(LOGOUT in sessionStorage)) return;
  delete sessionStorage[LOGOUT];
  // This tells other tabs.
  localStorage[LOGOUT] = Date.now();
}

function forgetAll() {
  isLoggedOut = true;
  sessionStorage.clear();
}

function onStorage({ key }) {
  if (key !== LOGOUT || !account) return;
  forgetAll();
  for (const form of all("form")) form.reset();
  leave(location.href);
}

// Without scripts, Enter would not send a textarea.
function widen(input) {
  const hadFocus = hasFocus(input);
  const area = document.createElement("textarea");
  for (const { name, value } of input.attributes) area.setAttribute(name, value);
  area.removeAttribute("value");
  area.rows = 1;
  area.defaultValue = input.defaultValue;
  area.value = input.value;
  input.replaceWith(area);
  if (hadFocus) toEnd(area);
}

function toEnd(field) {
  field.focus();
  if (/^text/.test(field.type)) field.setSelectionRange(field.value.length, field.value.length);
}

// Forms and links

const senders = {
  page: sendAdd,
  several: sendInPlace,
  status: sendStatus,
  edit: sendEdit,
  title: (form, fields) => (changed(form).length ? sendEdit(form, fields) : closeEditor()),
};
// Forms that wait for a response: what they sent
const onTheirWay = new Map();
let isLeaving = false;

function onSubmit(event) {
  const { target: form, submitter } = event;
  if (form.closest("dialog")) return;
  const url = submitter?.getAttribute("formaction") ?? form.action;
  const data = new FormData(form);
  if (submitter?.name) data.append(submitter.name, submitter.value);
  const fields = Object.fromEntries(data);
  const body = url + JSON.stringify(fields);
  const sender = list && senders[form.dataset.send];
  if (sender || onTheirWay.get(form) === body) event.preventDefault();
  if (sender) return sender(form, fields, url);
  onTheirWay.set(form, body);
  setTimeout(() => onTheirWay.delete(form), MAX_WAIT);
  isLeaving = true;
  forget(form);
  if (!/(logout|account.delete)$/.test(url)) return;
  forgetAll();
  sessionStorage[LOGOUT] = "";
}

const isModified = (event) => event.ctrlKey || event.altKey || event.metaKey;

// By their data attribute
const buttons = {
  copy,
  retry,
  reveal,
  help: showHelp,
  close: () => fill(flash),
  reopen: () => reopen(),
};

async function onClick(event) {
  const { target } = event;
  for (const name of Object.keys(target.dataset)) buttons[name]?.(target);
  const link = target.closest("a");
  if (event.shiftKey || isModified(event)) return;
  if (target.matches(".task .title") && getSelection().isCollapsed) {
    await editTitle(target.closest("li"));
  }
  if (!link) return;
  const act =
    (link.rel === "next" && loadMore) ||
    (link.matches(".task .links :first-child") && edit) ||
    (link.closest(".task .actions") && closeEditor);
  isLeaving = !act;
  if (!act) return;
  event.preventDefault();
  await follow(link, act).catch(() => explain());
}

// A second click is the first one.
const follow = (link, act) => (link.request ??= act(link).finally(() => delete link.request));

function retry() {
  for (const item of outbox) item.isRefused = false;
  sendOutbox();
}

// navigator.clipboard is missing over plain http.
function copy(button) {
  getSelection().selectAllChildren(byId(button.dataset.copy));
  if (document.execCommand("copy")) button.textContent = button.dataset.copied;
}

function reveal(button) {
  const field = button.previousElementSibling;
  field.type = field.type === "text" ? "password" : "text";
  button.setAttribute("aria-pressed", field.type === "text");
}

// For browsers without field-sizing
function grow() {
  if (CSS.supports("field-sizing:content")) return;
  for (const area of all("textarea")) {
    const rest = area.scrollHeight - area.clientHeight;
    if (rest > 0) area.style.height = `${area.offsetHeight + rest}px`;
  }
}

function onInput({ target }) {
  grow();
  if (target.id === "shortcuts") localStorage.shortcuts = target.checked;
  if (target.name === "title") takeLines(target);
  if (target.form?.matches("[data-draft]")) keep(target.form);
}

// A title has one line; several are several tasks.
function takeLines(field) {
  if (!/\n/.test(field.value)) return;
  const titles = byId("titles");
  const text = field.value.trim();
  field.value = text.replace(/\n/g, " ");
  if (field.id !== "new-title" || field.value === text) return;
  field.value = "";
  byId("several").open = true;
  titles.value = `${titles.value}\n${text}`.trim();
  keep(titles.form);
  titles.focus();
}

// Keys

const focusedRow = () => document.activeElement?.closest(".task");
const click = (selector) => focusedRow()?.querySelector(selector)?.click();

function move(step) {
  const row = focusedRow();
  const link = step > 0 && row && !row.nextElementSibling && more(row.parentElement);
  if (link) {
    link.focus();
    return link.click();
  }
  const shown = all("div > .tasks .task, [open] > .tasks .task");
  const next = shown[row ? shown.indexOf(row) + step : 0];
  if (next) find(".check", next).focus();
}

const remove = () => click(".links a:last-child");
const filter = (number) => all(".filter a")[number - 1].click();
const shortcuts = {
  n: () => byId("new-title").focus(),
  j: () => move(1),
  k: () => move(-1),
  x: () => click(".check"),
  e: () => click(".links a"),
  z: () => find("button:not([data-close])", flash)?.click(),
  1: filter,
  2: filter,
  3: filter,
  "#": remove,
  Delete: remove,
  "/": () => find(".filter [aria-current]").focus(),
  "?": showHelp,
};

function showHelp() {
  byId("shortcuts").checked = localStorage.shortcuts !== "false";
  byId("help").showModal();
}

// A layout without Latin letters has a key where a keyboard of the USA has it.
function keyOf({ key, code, shiftKey }) {
  if (code === "Slash" && /^[.,]$/.test(key)) return shiftKey ? "?" : "/";
  const letter = /^(Key|Digit)/.test(code) && code.at(-1);
  if (!letter || key.length > 1 || key < "\x80") return key;
  return shiftKey && letter === "3" ? "#" : letter.toLowerCase();
}

// Option and AltGr make a sign of a letter or a digit; with any other key they are a command.
function isCommand(event) {
  const isSign = /^[#/?]$/.test(event.key) && /^(Key|Digit|Bracket)/.test(event.code);
  return isModified(event) && !(isSign && event.altKey);
}

function onKey(event) {
  const { target, key } = event;
  // Safari: Escape after a composition
  if (event.isComposing || event.keyCode === 229) return;
  if (key === "Enter" && (event.ctrlKey || event.metaKey)) return save(target, event);
  if (isCommand(event)) return;
  if (key === "Escape") return giveUp(target);
  if (key === "Enter" && isIdle()) find("main .danger")?.click();
  if (target.closest("input, textarea, dialog, .editor") || !byId("help")) return;
  const pressed = keyOf(event);
  const shortcut = shortcuts[pressed];
  if (localStorage.shortcuts === "false" || !shortcut) return;
  event.preventDefault();
  // A key that is held down walks; anything else is done once.
  if (!event.repeat || /j|k/.test(pressed)) shortcut(pressed);
}

// Some keyboards of telephones send no key of their Enter.
function onBeforeInput(event) {
  const { target } = event;
  if (event.inputType === "insertLineBreak" && target.name === "title") save(target, event);
}

function save({ form }, event) {
  if (!form) return;
  event.preventDefault();
  find("button:not([type])", form).click();
}

function giveUp(target) {
  if (target.closest("dialog")) return;
  if (target.closest(".task .editor")) closeEditor();
  else (find("main form:not([data-draft]) .actions a") ?? find("[data-close]", flash))?.click();
}

// Coming and going

let hiddenSince = 0;

function onShow() {
  if (document.hidden) return (hiddenSince = Date.now());
  if (Date.now() - hiddenSince < AWAY) return;
  staying.clear();
  if (list) renew();
}

// Seconds, the smallest unit first
const UNITS = { minute: 60, hour: 3600, day: 86400 };
// Milliseconds by which the clock of this device is ahead of that of the server
let ahead;

// From a week on, a time is as old as the page says, until it is renewed.
function age() {
  const format = new Intl.RelativeTimeFormat(document.documentElement.lang);
  for (const time of all("time:not(.exact)")) {
    const seconds = (Date.now() - ahead - new Date(time.dateTime)) / 1000;
    for (const [unit, size] of Object.entries(UNITS)) {
      const number = Math.floor(seconds / size);
      if (number > 0 && seconds < 604800) time.textContent = format.format(-number, unit);
    }
  }
}

function onPageShow({ persisted }) {
  onTheirWay.clear();
  // Nobody sees a page from before a logout. The browser has gone to the fragment by now.
  if (persisted) location.reload();
  else returnToPlace();
}

function onPageHide() {
  storePlace();
  for (const { url, fields } of wishes.values()) {
    navigator.sendBeacon(url, new URLSearchParams(fields));
  }
}

function onBeforeUnload(event) {
  if (!isLeaving && (hasTyped() || outbox.length)) event.preventDefault();
}

function prepare(root) {
  ahead = Date.now() - root.body.dataset.now;
  all("input[name=title]", root).forEach(widen);
  for (const time of all("time", root)) {
    time.title = new Date(time.dateTime).toLocaleString();
    if (time.className) time.textContent = time.title;
  }
  for (const button of all("button[hidden]", root)) button.hidden = false;
  // What is deleted leads back to this list, also from a row of another page of it.
  for (const link of all(".task .links a:last-child", root)) link.search = location.search;
  // Drafts do what the browser's history of forms is for, and end with the session.
  for (const field of all("[data-draft]", root).flatMap(textFields)) field.autocomplete = "off";
}

const listeners = {
  submit: onSubmit,
  click: onClick,
  beforeinput: onBeforeInput,
  input: onInput,
  keydown: onKey,
  resize: grow,
  focusout: onFocusOut,
  compositionstart: () => (isComposing = true),
  compositionend: () => (isComposing = false),
  visibilitychange: onShow,
  pageshow: onPageShow,
  pagehide: onPageHide,
  beforeunload: onBeforeUnload,
  storage: onStorage,
  online: sendOutbox,
};

function start() {
  // This raises an error where the browser keeps nothing: then nothing starts
  dropOthers();
  for (const listener of Object.entries(listeners)) on(...listener);
  prepare(document);
  for (const form of all("[data-draft]")) restore(form);
  const field = find("main [autofocus]");
  if (field && (isIdle() || hasFocus(field))) toEnd(field);
  setInterval(age, AWAY);
  if (!list) return;
  for (const { fields } of stored(outboxName)) hold(fields);
  sendOutbox();
}

// Browsers that have it have everything else, too.
if ("at" in Array.prototype) start();
