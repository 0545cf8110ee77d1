// Without this script every token can be reached with Tab; with it, one Tab enters a text and the arrow keys move within.
for (const text of document.querySelectorAll(".tokens")) {
  const tokens = [...text.children];
  const enter = (token) => tokens.forEach((other) => { other.tabIndex = other === token ? 0 : -1; });
  enter(tokens[0]);
  text.addEventListener("focusin", (event) => enter(event.target));
  text.addEventListener("keydown", (event) => {
    const here = tokens.indexOf(document.activeElement), last = tokens.length - 1;
    if (event.key === "Escape") document.activeElement.blur();
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last }[event.key];
    if (here < 0 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    tokens[Math.min(Math.max(next, 0), last)].focus();
  });
}
