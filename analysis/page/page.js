"use strict";
// Sorting: a click sorts, a second one turns it round, a third one gives the first order back.
for (const table of document.querySelectorAll("figure.table table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    const numeric = head.classList.contains("number");
    const turns = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const turn = before === null ? turns[0] : before === turns[0] ? turns[1] : null;
    table.classList.toggle("sorted", turn !== null);
    if (turn === null) {
      body.append(...rows);
      return;
    }
    head.setAttribute("aria-sort", turn);
    const sign = turn === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.sort;
    body.append(...[...rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // cells without a value are sorted last
      return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
    }));
  }));
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
  });
}
// While the sweep runs the page reads itself again; what was open stays open.
const refresh = Number(document.documentElement.dataset.refresh);
if (refresh > 0) {
  const open = JSON.parse(sessionStorage.getItem("open") || "[]");
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  setTimeout(() => {
    const ids = [...document.querySelectorAll("details[open][id]")].map((one) => one.id);
    sessionStorage.setItem("open", JSON.stringify(ids));
    location.reload();
  }, refresh * 1000);
}
