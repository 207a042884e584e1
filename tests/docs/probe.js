// Opens PAGES in frames of a narrow screen, one after the other, and notes what a reader would see.
const seen = {}, wait = (ms) => new Promise((done) => setTimeout(done, ms));
async function look(page) {
  const frame = document.createElement("iframe");
  frame.style = "width:390px;height:800px;border:0";
  frame.src = page;
  const loaded = new Promise((done) => { frame.onload = done; });
  document.body.append(frame);
  await loaded;
  await wait(page.includes("?q=") ? 3000 : 300);
  const shown = frame.contentDocument, root = shown.documentElement;
  seen[page] = {
    overflow: root.scrollWidth - root.clientWidth,
    diagrams: [...shown.querySelectorAll("div.mermaid")].map((one) => one.offsetHeight),
    found: [...shown.querySelectorAll(".md-search-result__link")].map((one) => one.getAttribute("href")),
  };
  frame.remove();
}
(async () => {
  for (const page of PAGES) await look(page);
  document.documentElement.dataset.seen = JSON.stringify(seen);
})();
