// Says of two classes that a reader names what is known of them: see two_classes in measurement_pairs.py.
{
  const part = document.querySelector(".two");
  if (part !== null) {
    const data = JSON.parse(part.querySelector("script").textContent);
    const place = new Map(data.names.map((name, c) => [name, c]));
    const fields = [...part.querySelectorAll("input")];
    const rows = [...part.querySelector("tbody").rows];
    const key = (a, b) => a * data.names.length + b;
    const taken = new Map(data.taken.map(([a, b, value]) => [key(a, b), value]));
    const both = (pairs) => new Map(pairs.flatMap(([a, b, value]) => [[key(a, b), value], [key(b, a), value]]));
    const between = [both(data.degrees), both(data.distances)];
    part.querySelector("datalist").append(...data.names.map((name) => new Option(name, name)));

    const told = () => {
      const chosen = fields.map((field) => place.get(field.value) ?? place.get(field.value.trim()));
      fields.forEach((field, k) => {
        field.setAttribute("aria-invalid", String(chosen[k] === undefined));
        field.title = field.value;
      });
      const [a, b] = chosen;
      const known = a !== undefined && b !== undefined;
      const amount = (from, to) =>
        !known || from === to ? "–" : (taken.get(key(from, to)) ?? (data.all ? 0 : "–")).toLocaleString("en");
      rows.forEach((row, k) => {
        const [, first, second] = row.cells;
        if (k < data.facts.length) {
          first.textContent = data.facts[k][a] ?? "–";
          second.textContent = data.facts[k][b] ?? "–";
        } else if (k === data.facts.length) {
          first.textContent = amount(a, b);
          second.textContent = amount(b, a);
        } else {
          first.textContent = (known && between[k - data.facts.length - 1].get(key(a, b))) || "–";
        }
      });
    };
    fields.forEach((field, k) => {
      field.value = data.names[data.start[k]].replace(/\s/g, " ");
      field.addEventListener("input", told);
    });
    data.names.forEach((name, c) => place.set(name.replace(/\s/g, " "), c)); // a field holds one line
    told();
  }
}
