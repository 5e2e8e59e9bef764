// The longest spell without rain, as JSON.
// Usage: dry_spell.js seattle-weather.csv

const fs = require("fs");

const [header, ...lines] = fs.readFileSync(process.argv[2], "utf8").trim().split("\n");
const column = header.split(",").indexOf("precipitation");
let longest = { days: 0 };
let spell = { days: 0 };
for (const line of lines) {
  const cells = line.split(",");
  spell = Number(cells[column]) > 0 ? { days: 0 } : { from: spell.from ?? cells[0], until: cells[0], days: spell.days + 1 };
  if (spell.days > longest.days) longest = spell;
}
fs.writeFileSync("dry-spell.json", JSON.stringify(longest, null, 2) + "\n");
console.log(`${longest.days} days without rain, ${longest.from} to ${longest.until}`);
