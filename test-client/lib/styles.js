// `test-styles`: the same object under both addressing styles.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import dns from "node:dns";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { Checks } from "./check.js";
import { ensureBucket, proxyClient, proxyEndpoint } from "./client.js";

export async function testStyles(bucket) {
  const endpoint = new URL(proxyEndpoint());
  const address = endpoint.hostname;
  const domain = (process.env.PROXY_DOMAIN || address).split(",")[0].trim().replace(/^\*?\./, "");
  if (net.isIP(domain.replace(/^\[|\]$/g, ""))) {
    throw new Error("virtual-hosted-style needs a name: set PROXY_DOMAIN as the proxy has it");
  }
  const pathStyle = proxyClient();
  endpoint.hostname = domain;
  const virtualHosted = proxyClient({
    endpoint: endpoint.origin,
    forcePathStyle: false,
    requestHandler: { httpAgent: agentTo(http, address), httpsAgent: agentTo(https, address) },
  });

  await ensureBucket(pathStyle, bucket);
  const checks = new Checks();
  const styles = { "path-style": pathStyle, "virtual-hosted-style": virtualHosted };
  for (const [written, writer] of Object.entries(styles)) {
    const object = { Bucket: bucket, Key: `s3-mirror-test/styles/${randomUUID()} ü+.txt` };
    await checks.run(`${written}: put`, () =>
      writer.send(new PutObjectCommand({ ...object, Body: written })));
    for (const [read, reader] of Object.entries(styles)) {
      await checks.run(`${read}: get what ${written} put`, async () => {
        const answer = await reader.send(new GetObjectCommand(object));
        assert.equal(await answer.Body.transformToString(), written);
      });
    }
    await checks.run(`${written}: delete`, () => writer.send(new DeleteObjectCommand(object)));
  }
  return checks.finish();
}

/** Connects every name below the base domain to the proxy, so that no wildcard DNS is needed. */
function agentTo({ Agent }, address) {
  const host = address.replace(/^\[|\]$/g, "");
  return new Agent({
    keepAlive: true,
    lookup: (_name, options, callback) => dns.lookup(host, options, callback),
  });
}
