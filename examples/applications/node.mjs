// npm install @aws-sdk/client-s3
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const s3 = new S3Client({
  endpoint: process.env.S3_ENDPOINT ?? "http://s3-proxy.s3-mirror.svc.cluster.local",
  forcePathStyle: true,
  region: "us-east-1",
  // The SDK insists on credentials; the proxy signs with its own.
  credentials: { accessKeyId: "any", secretAccessKey: "any" },
});

const object = { Bucket: process.env.BUCKET ?? "my-bucket", Key: "hello/node.txt" };
await s3.send(new PutObjectCommand({ ...object, Body: "Hello from Node.js" }));
const answer = await s3.send(new GetObjectCommand(object));
console.log(await answer.Body.transformToString());
