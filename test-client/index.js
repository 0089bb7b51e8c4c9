#!/usr/bin/env node
// A small S3 client to try a running s3-mirror with. It needs no credentials: the proxy signs.
import { parseArgs } from "node:util";
import * as commands from "./lib/commands.js";
import { selfTest } from "./lib/self-test.js";
import { testStyles } from "./lib/styles.js";

const USAGE = `Usage: node index.js <command>

  upload <bucket> <key> <file>      write a file; creates the bucket if there is none
  download <bucket> <key> <file>    read an object into a file
  delete <bucket> <key>             delete an object
  list <bucket> [prefix]            list objects
  test <bucket>                     write, read, copy, upload in parts and delete, and see
                                    main, the mirror and the inventory follow
  test-styles <bucket>              the same bucket by path-style and virtual-hosted-style

Environment:
  S3_ENDPOINT      the proxy; default http://localhost:8080
  PROXY_DOMAIN     for test-styles: the proxy's base domain; default the host of S3_ENDPOINT
  TIMEOUT_SECONDS  for test: how long the mirror and the inventory may take; default 60
  MAIN_S3_ENDPOINT, MAIN_*, MIRROR_S3_ENDPOINT, MIRROR_*, POSTGRES_*, DISABLE_DATABASE
                   for test: as given to the proxy. What is not given is not verified, and
                   the test says so.
  ADMIN_ENDPOINT   for test: the proxy's admin port, to see an inventory that is not in
                   PostgreSQL`;

const COMMANDS = {
  upload: [commands.upload, 3, 3],
  download: [commands.download, 3, 3],
  delete: [commands.remove, 2, 2],
  list: [commands.list, 1, 2],
  test: [selfTest, 1, 1],
  "test-styles": [testStyles, 1, 1],
};

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { help: { type: "boolean", short: "h" } },
  });
  const [name, ...args] = positionals;
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const [run, least, most] = COMMANDS[name] ?? [];
  if (!run || args.length < least || args.length > most) {
    console.error(USAGE);
    return 64;
  }
  return (await run(...args)) ?? 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // A refused connection has its reason in `code`, an S3 error in `name`.
  console.error(`failed: ${error.name}: ${error.message || error.code}`);
  process.exitCode = 1;
}
