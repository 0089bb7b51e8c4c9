// `test`: every kind of write through the proxy, then main, mirror and inventory are compared.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { Checks, eventually } from "./check.js";
import { directClient, ensureBucket, proxyClient } from "./client.js";
import { openInventory } from "./inventory.js";

const MIB = 1024 * 1024;

export async function selfTest(bucket) {
  const s3 = proxyClient();
  await ensureBucket(s3, bucket);
  // A prefix of its own, so that the test can be repeated and leaves other objects alone.
  const prefix = `s3-mirror-test/${Date.now()}-${randomBytes(3).toString("hex")}/`;
  const checks = new Checks();

  // Key to the bytes it must hold in the end; null: it must be gone.
  const expected = new Map();
  const at = (name) => ({ Bucket: bucket, Key: prefix + name });
  const put = async (name, body, more = {}) => {
    await s3.send(new PutObjectCommand({ ...at(name), Body: body, ...more }));
    expected.set(prefix + name, body);
  };

  await checks.run("put and get", async () => {
    const body = randomBytes(100_001);
    await put("plain.bin", body, { ContentType: "application/x-test", Metadata: { colour: "blue" } });
    const answer = await s3.send(new GetObjectCommand(at("plain.bin")));
    assert.equal(answer.ContentType, "application/x-test");
    assert.deepEqual(answer.Metadata, { colour: "blue" });
    assert.ok(body.equals(await bytes(answer)), "other bytes came back");
  });
  await checks.run("a key with spaces, plus, percent and unicode", () =>
    put("a b+c%20d/ü 日本.txt", Buffer.from("odd key")));
  await checks.run("an empty object", () => put("empty", Buffer.alloc(0)));
  await checks.run("overwrite", async () => {
    await put("overwritten.txt", Buffer.from("old"));
    await put("overwritten.txt", Buffer.from("new and longer"));
  });
  await checks.run("copy", async () => {
    const source = encodeURIComponent(`${bucket}/${prefix}plain.bin`);
    await s3.send(new CopyObjectCommand({ ...at("copied.bin"), CopySource: source }));
    expected.set(`${prefix}copied.bin`, expected.get(`${prefix}plain.bin`));
  });
  await checks.run("upload in parts", async () => {
    const parts = [randomBytes(5 * MIB), randomBytes(5 * MIB + 1), randomBytes(1234)];
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand(at("parts.bin")));
    const done = [];
    for (const [index, Body] of parts.entries()) {
      const part = { ...at("parts.bin"), UploadId, PartNumber: index + 1, Body };
      const { ETag } = await s3.send(new UploadPartCommand(part));
      done.push({ ETag, PartNumber: index + 1 });
    }
    await s3.send(
      new CompleteMultipartUploadCommand({ ...at("parts.bin"), UploadId, MultipartUpload: { Parts: done } }),
    );
    expected.set(`${prefix}parts.bin`, Buffer.concat(parts));
  });
  await checks.run("delete", async () => {
    await put("deleted.txt", Buffer.from("going"));
    await s3.send(new DeleteObjectCommand(at("deleted.txt")));
    expected.set(`${prefix}deleted.txt`, null);
  });
  await checks.run("delete several at once", async () => {
    const names = ["many/1", "many/2", "many/3"];
    for (const name of names) await put(name, Buffer.from(name));
    const Objects = names.map((name) => ({ Key: prefix + name }));
    const answer = await s3.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }));
    assert.deepEqual(answer.Errors ?? [], []);
    for (const { Key } of Objects) expected.set(Key, null);
  });
  await checks.run("list", async () => {
    const answer = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
    const found = (answer.Contents ?? []).map((object) => object.Key).sort();
    const alive = [...expected].filter(([, body]) => body).map(([key]) => key).sort();
    assert.deepEqual(found, alive);
  });

  await verifyStore(checks, "main", directClient("MAIN"), bucket, expected);
  const mirrorBucket = (process.env.MIRROR_BUCKET_PREFIX || "") + bucket;
  await verifyStore(checks, "mirror", directClient("MIRROR"), mirrorBucket, expected);
  await verifyInventory(checks, bucket, expected);
  return checks.finish();
}

/** Every key must hold the expected bytes there, or be gone there. */
async function verifyStore(checks, side, client, bucket, expected) {
  const variable = `${side.toUpperCase()}_S3_ENDPOINT`;
  if (!client) return checks.unverified(side, `${variable} is not set`);
  await checks.run(`${side} holds the same`, () =>
    eventually(async () => {
      for (const [key, body] of expected) {
        const found = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key })).then(
          bytes,
          (error) => (error.$metadata?.httpStatusCode === 404 ? null : Promise.reject(error)),
        );
        assert.equal(digest(found), digest(body), `${key} differs`);
      }
    }));
}

/** Every key must have its row: size, backed up; a deleted one must not be alive. */
async function verifyInventory(checks, bucket, expected) {
  const inventory = await openInventory();
  if (inventory.reason) return checks.unverified("inventory", inventory.reason);
  try {
    await checks.run("the inventory has every key", () =>
      eventually(async () => {
        const rows = await inventory.rows(bucket, [...expected.keys()]);
        for (const [key, body] of expected) {
          const row = rows.get(key);
          // Written and deleted before the inventory was written once: then there is no row.
          if (body === null && !row) continue;
          assert.ok(row, `${key} has no row`);
          assert.equal(row.deleted, body === null, `${key}: deleted`);
          if (body === null) continue;
          assert.equal(Number(row.size), body.length, `${key}: size`);
          assert.equal(row.is_backed_up, true, `${key}: is_backed_up`);
        }
      }));
  } finally {
    await inventory.close();
  }
}

async function bytes(answer) {
  return Buffer.from(await answer.Body.transformToByteArray());
}

function digest(body) {
  return body === null ? "gone" : createHash("sha256").update(body).digest("hex");
}
