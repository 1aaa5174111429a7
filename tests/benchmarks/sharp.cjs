// The best program with sharp: in memory, many images in flight, one thread of libvips for each processor.
// Usage: node sharp.cjs URL BUCKET FOLDER COUNT IN_FLIGHT. Prints what it did as a line of JSON.

process.env.UV_THREADPOOL_SIZE ??= String(require('node:os').availableParallelism());
const http = require('node:http');
const sharp = require('sharp');

const [url, bucket, folder, count, inFlight] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: Number(inFlight), scheduling: 'fifo' });
sharp.cache(false);
sharp.concurrency(1);

function call(method, path, body, type) {
  const headers = body ? { 'Content-Type': type, 'Content-Length': body.length } : {};
  return new Promise((resolve, reject) => {
    const request = http.request(`${url}${path}`, { method, agent, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () =>
        answer.statusCode === 200 ? resolve(Buffer.concat(parts)) : reject(new Error(`${answer.statusCode} for ${path}`)),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function* listed() {
  const path = `/storage/v1/b/${bucket}/o?prefix=${folder}&fields=items(name,contentType),nextPageToken`;
  let left = Number(count);
  for (let token = ''; left > 0; ) {
    const page = JSON.parse(await call('GET', token ? `${path}&pageToken=${token}` : path));
    yield* page.items.slice(0, left);
    left -= page.items.length;
    token = page.nextPageToken;
    if (!token) return;
  }
}

async function make({ name, contentType }) {
  const data = await call('GET', `/download/storage/v1/b/${bucket}/o/${encodeURIComponent(name)}?alt=media`);
  const size = { width: 100, height: 100, fit: 'inside', withoutEnlargement: true };
  const made = await sharp(data).autoOrient().resize(size).toBuffer();
  const target = encodeURIComponent(`out/${name.split('/').pop()}`);
  await call('POST', `/upload/storage/v1/b/${bucket}/o?uploadType=media&name=${target}`, made, contentType);
}

async function main() {
  const began = performance.now();
  const before = process.cpuUsage();
  const names = listed();
  const worker = async () => {
    for (let next = await names.next(); !next.done; next = await names.next()) await make(next.value);
  };
  await Promise.all(Array.from({ length: Number(inFlight) }, worker));
  const used = process.cpuUsage(before);
  const measured = {
    seconds: (performance.now() - began) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6,
    peak_bytes: process.resourceUsage().maxRSS * 1024,
  };
  console.log(JSON.stringify(measured));
  agent.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
