// The way of Firebase's extension Resize Images: to a temporary file, sharp, a second file, upload; one image a call.
// Usage: node firebase.cjs URL BUCKET FOLDER COUNT. Prints what it did as a line of JSON.

const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const sharp = require('sharp');
const { Storage } = require('@google-cloud/storage');

const [url, bucketName, folder, count] = process.argv.slice(2);
// With it, the client leaves `/storage/v1` out.
delete process.env.STORAGE_EMULATOR_HOST;
const bucket = new Storage({ projectId: 'bench', apiEndpoint: url }).bucket(bucketName);
sharp.cache(false);

async function resize(object) {
  const { ext, name } = path.parse(object.name);
  const original = path.join(os.tmpdir(), randomUUID());
  const modifiedName = `${name}_100x100_${randomUUID()}${ext}`;
  const modified = path.join(os.tmpdir(), modifiedName);
  try {
    await bucket.file(object.name).download({ destination: original });
    const size = { fit: 'inside', withoutEnlargement: true };
    const resized = await sharp(original, { failOn: 'none' }).rotate().resize(100, 100, size).toBuffer();
    await sharp(resized).toFile(modified);
    const metadata = { contentType: object.contentType, metadata: { resizedImage: 'true' } };
    await bucket.upload(modified, { destination: `out/${modifiedName}`, metadata });
  } finally {
    fs.rmSync(original, { force: true });
    fs.rmSync(modified, { force: true });
  }
}

async function main() {
  // Events name the objects; the listing stands for them and is not measured.
  const [files] = await bucket.getFiles({ prefix: folder, maxResults: Number(count), autoPaginate: false });
  const began = performance.now();
  const before = process.cpuUsage();
  for (const file of files) await resize({ name: file.name, contentType: file.metadata.contentType });
  const used = process.cpuUsage(before);
  const measured = {
    seconds: (performance.now() - began) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6,
    peak_bytes: process.resourceUsage().maxRSS * 1024,
  };
  console.log(JSON.stringify(measured));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
