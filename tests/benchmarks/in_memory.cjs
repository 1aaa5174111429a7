// Thumbnails of 500 pixels with sharp, from memory to memory, one after the other.
// Usage: node in_memory.cjs COUNT FILE... Prints what it did as a line of JSON.

const fs = require('node:fs');
const sharp = require('sharp');

const [count, ...names] = process.argv.slice(2);
const files = names.map((name) => fs.readFileSync(name));
sharp.cache(false);
sharp.concurrency(1);

async function make(data) {
  const size = { width: 500, height: 500, fit: 'inside', withoutEnlargement: true };
  return sharp(data).autoOrient().resize(size).toBuffer();
}

async function main() {
  await make(files[0]);
  const began = performance.now();
  const before = process.cpuUsage();
  for (let number = 0; number < Number(count); number++) await make(files[number % files.length]);
  const used = process.cpuUsage(before);
  const seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ seconds, cpu_seconds: (used.user + used.system) / 1e6 }));
}

main();
