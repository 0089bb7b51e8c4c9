// S3 clients: one for the proxy, one each for main and mirror when they are given.
import { CreateBucketCommand, HeadBucketCommand, S3Client } from "@aws-sdk/client-s3";

/** The proxy's URL. */
export function proxyEndpoint() {
  return process.env.S3_ENDPOINT || "http://localhost:8080";
}

/** A client of the proxy. The SDK wants credentials; the proxy does not care which. */
export function proxyClient(options = {}) {
  return new S3Client({
    endpoint: proxyEndpoint(),
    region: process.env.MAIN_REGION || "us-east-1",
    credentials: { accessKeyId: "any", secretAccessKey: "any" },
    forcePathStyle: true,
    ...options,
  });
}

/**
 * A client that talks to `MAIN` or `MIRROR` directly, from the variables the proxy itself
 * reads; null when the endpoint is not given.
 */
export function directClient(side) {
  const env = (name) => process.env[`${side}_${name}`];
  if (!env("S3_ENDPOINT")) return null;
  return new S3Client({
    endpoint: env("S3_ENDPOINT"),
    region: env("REGION") || "us-east-1",
    forcePathStyle: true,
    // Without keys the SDK uses its standard chain, as the proxy does.
    ...(env("ACCESS_KEY") && {
      credentials: { accessKeyId: env("ACCESS_KEY"), secretAccessKey: env("SECRET_KEY") },
    }),
  });
}

/** Creates the bucket unless it is there. */
export async function ensureBucket(client, bucket) {
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }));
  } catch (error) {
    if (error.$metadata?.httpStatusCode !== 404) throw error;
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    console.log(`created bucket ${bucket}`);
  }
}
