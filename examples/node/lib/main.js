// Tells the most frequent words of its standard input.
"use strict";

const { countWords } = require("count");

const wanted = Number(process.argv[2] ?? 5);
let text = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (piece) => text += piece);
process.stdin.on("end", () => {
  const counts = [...countWords(text)];
  counts.sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  for (const [word, n] of counts.slice(0, wanted)) {
    console.log(`${String(n).padStart(4)} ${word}`);
  }
});
