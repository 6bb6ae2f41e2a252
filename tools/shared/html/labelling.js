"use strict";
// The page of tools.label_queue and tools.suspects: an image at a time, a key a class, and a CSV file in the end.
//
// What the page asks is JSON in #data; see tools/shared/labelling/labelling_page.py. An answer is the number of a class, or
// "extra0", "extra1" for the answers that are none. Answers stay in this browser, under data.key, until somebody removes them.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const KEYS = [..."1234567890abcdefghijklmnopqrstuvwxyz"];
  const EXTRA_KEYS = [".", ","];
  const MOST_SHOWN = 120;
  const FILE = data.columns.indexOf("file"), LABEL = data.columns.indexOf("label"), WHY = data.columns.indexOf("why");
  const count = data.items.length, hasKeys = data.classes.length <= KEYS.length;
  const by = (id) => document.getElementById(id);
  const made = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Answers.

  let state = { answers: {}, history: [], at: 0 }, isKept = true, isSaved = false;

  function isAnswer(value) {
    return typeof value === "string" ? value in extras : Number.isInteger(value) && value >= 0 && value < data.classes.length;
  }

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(data.key));
      if (!kept) return;
      const answers = Object.entries(kept.answers).filter(([i, value]) => data.items[i] && isAnswer(value));
      state = { answers: Object.fromEntries(answers), history: kept.history, at: Math.min(kept.at, count) };
    } catch {
      isKept = false;
    }
  }

  function keep() {
    try {
      localStorage.setItem(data.key, JSON.stringify(state));
      isKept = true;
    } catch {
      isKept = false;
    }
  }

  const isOpen = (i) => !(i in state.answers);

  function nextOpen(from) {
    for (let step = 0; step < count; step++) {
      if (isOpen((from + step) % count)) return (from + step) % count;
    }
    return count;
  }

  function answer(value) {
    const i = state.at;
    if (i >= count) return;
    const before = isOpen(i) ? null : state.answers[i];
    state.history.push([i, before]);
    state.answers[i] = value;
    // Who corrects an answer looks at the next one then, too.
    state.at = before !== null && nextOpen(0) === count ? i + 1 : nextOpen(i + 1);
    isSaved = false;
    keep();
    tell(i);
    show(`Last: ${textOf(value)}.`);
  }

  function undo() {
    const last = state.history.pop();
    if (!last) return;
    const [i, before] = last;
    if (before === null) delete state.answers[i];
    else state.answers[i] = before;
    state.at = i;
    isSaved = false;
    keep();
    tell(i);
    show("Undone.");
  }

  function move(to) {
    state.at = Math.max(0, Math.min(to, count));
    keep();
    show("");
  }

  // The file.

  const extras = Object.fromEntries(data.extras.map((extra, i) => [`extra${i}`, extra]));
  const textOf = (value) => (value in extras ? extras[value].text : data.classes[value]);

  function line(i) {
    const cells = [...data.items[i].cells], value = state.answers[i], given = cells[LABEL];
    if (isOpen(i)) return cells;
    if (value in extras) {
      cells[LABEL] = extras[value].keeps ? given : "";
      cells[WHY] = extras[value].why;
    } else {
      cells[LABEL] = data.labels[value];
      if (given) cells[WHY] = given === cells[LABEL] ? "kept" : `was ${given}`;
    }
    return cells;
  }

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function save() {
    const lines = [data.columns, ...data.items.map((_, i) => line(i)), ...data.rest];
    const text = lines.map((cells) => `${cells.map(quoted).join(",")}\n`).join("");
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    made("a", { href: address, download: data.file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    isSaved = true;
    say(`Saved as ${data.file}, where this browser puts downloads.`);
  }

  // What is seen.

  function keysOf(names) {
    const own = new Map();
    names.forEach((name, i) => {
      const key = name.toLowerCase();
      if (KEYS.includes(key) && ![...own.values()].includes(key)) own.set(i, key);
    });
    const free = KEYS.filter((key) => ![...own.values()].includes(key));
    return names.map((_, i) => own.get(i) ?? free.shift());
  }

  function button(value, key, text) {
    const own = made("button", { type: "button" }, made("kbd", { textContent: key, hidden: !key }), made("span", { textContent: text }));
    own.dataset.value = value;
    if (key) own.setAttribute("aria-keyshortcuts", key);
    own.addEventListener("click", () => answer(value in extras ? value : Number(own.dataset.value)));
    return own;
  }

  function say(more) {
    const answers = Object.values(state.answers), done = answers.length;
    const of = data.extras.map((extra, i) => [answers.filter((value) => value === `extra${i}`).length, extra.text.toLowerCase()]);
    const others = of.filter(([number]) => number).map(([number, text]) => `${number} ${text}`).join(", ");
    const end = done === count && !isSaved ? " Save the CSV now." : "";
    by("status").textContent = `${done} of ${count} answered${others ? ` (${others})` : ""}. ${more}${end}`;
    by("progress").value = done;
    by("unkept").hidden = isKept;
    by("undo").disabled = !state.history.length;
  }

  function show(more) {
    const i = state.at, item = data.items[i], isEnd = i >= count;
    by("place").textContent = isEnd ? "The end" : `Image ${i + 1} of ${count}`;
    by("why").textContent = isEnd ? "Save the CSV, or go back to look again." : item.why;
    by("name").textContent = isEnd ? "" : item.cells[FILE];
    by("picture").hidden = isEnd;
    if (!isEnd) {
      Object.assign(by("picture"), { src: item.picture, alt: `Image ${i + 1}, ${item.cells[FILE]}: ${item.why}` });
      by("picture").classList.toggle("large", item.picture.startsWith("data:image/jpeg"));
    }
    by("back").disabled = i === 0;
    by("forward").disabled = isEnd;
    if (!hasKeys) showLikely(isEnd ? [] : item.likely);
    mark(isEnd);
    say(more);
    tellPlace();
  }

  function mark(isEnd) {
    const likely = isEnd || !hasKeys ? [] : data.items[state.at].likely.slice(0, 2).map(String);
    const value = isEnd ? undefined : state.answers[state.at];
    for (const own of document.querySelectorAll("[data-value]")) {
      own.disabled = isEnd;
      own.setAttribute("aria-pressed", String(own.dataset.value === String(value)));
      own.classList.toggle("likely", likely.includes(own.dataset.value));
    }
  }

  function showLikely(likely) {
    [...by("likely").children].forEach((own, i) => {
      own.hidden = i >= likely.length;
      own.dataset.value = likely[i] ?? -1;
      own.lastChild.textContent = data.classes[likely[i]] ?? "";
    });
  }

  // Search, where there are more classes than keys.

  const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const foldedClasses = data.classes.map(folded);

  function found() {
    const wanted = folded(by("search").value.trim());
    const those = data.classes.map((_, i) => i).filter((i) => foldedClasses[i].includes(wanted));
    const rank = (i) => (foldedClasses[i] === wanted ? 0 : foldedClasses[i].startsWith(wanted) ? 1 : 2);
    return wanted ? those.sort((a, b) => rank(a) - rank(b) || a - b) : those;
  }

  function showFound() {
    const those = found(), isAll = those.length === data.classes.length;
    const shown = isAll && those.length > MOST_SHOWN ? [] : those.slice(0, MOST_SHOWN);
    by("classes").replaceChildren(...shown.map((i) => button(i, "", data.classes[i])));
    const number = those.length === 1 ? "1 class" : `${those.length.toLocaleString("en")} classes`;
    by("matches").textContent = isAll ? `${number}: type a part of a name` : `${number}${those.length ? ", Enter takes the first" : ""}`;
    mark(state.at >= count);
  }

  function endSearch() {
    by("search").value = "";
    by("search").blur();
    showFound();
  }

  function searchKey(event) {
    if (event.key === "Escape") endSearch();
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    const [first] = by("search").value.trim() ? found() : [];
    if (first === undefined) return;
    endSearch();
    answer(first);
  }

  // All images, with their answers, once somebody opens them.

  const told = [];

  function tell(i) {
    if (told[i]) told[i].textContent = `${i + 1}: ${isOpen(i) ? "-" : textOf(state.answers[i])}`;
  }

  function tellPlace() {
    told.forEach((text, i) => text.parentElement.toggleAttribute("aria-current", i === state.at));
  }

  function fillOverview() {
    if (!by("overview").open || told.length) return;
    by("all").replaceChildren(
      ...data.items.map((item, i) => {
        told.push(made("span", {}));
        tell(i);
        const image = made("img", { src: item.picture, alt: item.cells[FILE], loading: "lazy" });
        const own = made("button", { type: "button" }, image, told[i]);
        own.addEventListener("click", () => {
          move(i);
          by("work").scrollIntoView();
        });
        return own;
      }),
    );
    tellPlace();
  }

  function followOther() {
    load();
    told.forEach((_, i) => tell(i));
    show("");
  }

  // Keys.

  const actions = new Map([
    ["backspace", undo],
    ["arrowleft", () => move(state.at - 1)],
    ["arrowright", () => move(state.at + 1)],
  ]);

  function typed(event) {
    // A browser that fills a field in by itself names no key.
    const isText = event.target === by("search"), key = (event.key ?? "").toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "s" || (key === "z" && !isText))) {
      event.preventDefault();
      if (!event.repeat) (key === "z" ? undo : save)();
      return;
    }
    if (isText || event.ctrlKey || event.metaKey || event.altKey || !by("keys").checked) return;
    // By the place of a digit, too: on some keyboards it needs Shift. A key that is held down answers once.
    const digit = event.shiftKey ? null : /^(?:Digit|Numpad)(\d)$/.exec(event.code);
    const action = actions.get(digit ? digit[1] : key);
    if (action) {
      event.preventDefault();
      if (!event.repeat || event.key.startsWith("Arrow")) action();
    } else if (!hasKeys && (event.key === "/" || /^\p{L}$/u.test(event.key))) {
      if (event.key === "/") event.preventDefault();
      by("search").focus();
    }
  }

  function begin() {
    data.extras.forEach((extra, i) => {
      const own = button(`extra${i}`, EXTRA_KEYS[i], extra.text);
      by("extras").append(own);
      actions.set(EXTRA_KEYS[i], () => own.click());
    });
    if (hasKeys) {
      keysOf(data.classes).forEach((key, i) => {
        by("classes").append(button(i, key, data.classes[i]));
        actions.set(key, () => answer(i));
      });
    } else {
      KEYS.slice(0, 10).forEach((key, i) => {
        const own = button(-1, key, "");
        by("likely").append(own);
        actions.set(key, () => own.hidden || own.click());
      });
      by("likely").after(by("extras"));
      by("finder").hidden = by("likely").hidden = false;
      by("search").addEventListener("input", showFound);
      by("search").addEventListener("keydown", searchKey);
    }
    by("progress").max = count;
    by("undo").addEventListener("click", undo);
    by("back").addEventListener("click", () => move(state.at - 1));
    by("forward").addEventListener("click", () => move(state.at + 1));
    by("save").addEventListener("click", save);
    by("overview").addEventListener("toggle", fillOverview);
    document.addEventListener("keydown", typed);
    // Another tab with this page.
    addEventListener("storage", (event) => event.key === data.key && followOther());
    addEventListener("beforeunload", (event) => !isKept && !isSaved && state.history.length && event.preventDefault());
    load();
    if (!hasKeys) showFound();
    by("work").hidden = false;
    show("");
  }

  begin();
})();
