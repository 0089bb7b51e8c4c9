// The plain commands: one S3 call each, streaming files.
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  paginateListObjectsV2,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { ensureBucket, proxyClient } from "./client.js";

export async function upload(bucket, key, file) {
  const s3 = proxyClient();
  const { size } = await stat(file);
  await ensureBucket(s3, bucket);
  const { ETag } = await s3.send(
    new PutObjectCommand({ Bucket: bucket, Key: key, Body: createReadStream(file), ContentLength: size }),
  );
  console.log(`uploaded ${size} bytes to ${bucket}/${key} (${ETag})`);
}

export async function download(bucket, key, file) {
  const answer = await proxyClient().send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  await pipeline(answer.Body, createWriteStream(file));
  console.log(`downloaded ${answer.ContentLength} bytes to ${file}`);
}

export async function remove(bucket, key) {
  await proxyClient().send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  console.log(`deleted ${bucket}/${key}`);
}

export async function list(bucket, prefix) {
  let count = 0;
  const pages = paginateListObjectsV2({ client: proxyClient() }, { Bucket: bucket, Prefix: prefix });
  for await (const page of pages) {
    for (const object of page.Contents ?? []) {
      count += 1;
      console.log(`${object.LastModified.toISOString()} ${String(object.Size).padStart(12)} ${object.Key}`);
    }
  }
  console.log(`${count} objects`);
}
