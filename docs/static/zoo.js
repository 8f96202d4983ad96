// Menus above the table of the model zoo that show the rows of one method or task.
document.addEventListener('DOMContentLoaded', () => {
  const table = document.querySelector('#model-zoo table');
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const menus = ['method', 'task', 'dataset'].map((name, column) => {
    const menu = document.createElement('select');
    menu.setAttribute('aria-label', name);
    menu.add(new Option(`any ${name}`, ''));
    [...new Set(rows.map((row) => text(row, column)))].sort().forEach((value) => menu.add(new Option(value, value)));
    return menu;
  });
  const show = () => rows.forEach((row) => {
    row.hidden = menus.some((menu, column) => menu.value && menu.value !== text(row, column));
  });
  const bar = document.createElement('p');
  bar.className = 'zoo-menus';
  menus.forEach((menu) => { menu.onchange = show; bar.append(menu); });
  (table.closest('.table-wrapper') || table).before(bar);
});
