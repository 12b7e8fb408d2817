document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const selection = getSelection();
  selection.selectAllChildren(source);
  try {
    await navigator.clipboard.writeText(source.textContent);
    selection.removeAllRanges();
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  } catch {
    button.textContent = "Selected";
  }
});
