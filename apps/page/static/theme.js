// Before the first paint, so that nothing flashes in the other theme.
{
  let chosen = "";
  try { chosen = localStorage.getItem("docweave-theme") || ""; } catch { /* storage is off */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
