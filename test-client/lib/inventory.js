// The inventory: in PostgreSQL, read the way any program would, one table per bucket; else, as an
// SQLite file is the proxy's own, by the proxy's admin port.
import pg from "pg";

/**
 * Opens the inventory from the variables the proxy itself reads. `reason` is set instead when
 * there is none to look at.
 */
export async function openInventory() {
  const env = process.env;
  if (env.DISABLE_DATABASE === "true") return { reason: "DISABLE_DATABASE is true" };
  if (!env.POSTGRES_URL && !env.POSTGRES_PASSWORD) {
    if (env.ADMIN_ENDPOINT) return askedOf(env.ADMIN_ENDPOINT);
    return { reason: "none of POSTGRES_URL, POSTGRES_PASSWORD and ADMIN_ENDPOINT is set" };
  }
  const client = new pg.Client(
    env.POSTGRES_URL
      ? { connectionString: env.POSTGRES_URL }
      : {
          host: env.POSTGRES_HOST || "localhost",
          port: Number(env.POSTGRES_PORT || 5432),
          user: env.POSTGRES_USER || "s3mirror",
          password: env.POSTGRES_PASSWORD,
          database: env.POSTGRES_DB || "s3_mirror",
        },
  );
  await client.connect();
  return {
    /** The rows of these keys, by key. */
    async rows(bucket, keys) {
      const table = pg.escapeIdentifier(tableName(bucket));
      const columns = "path, size, is_backed_up, deleted";
      const { rows } = await client.query(`SELECT ${columns} FROM ${table} WHERE path = ANY($1)`, [keys]);
      return new Map(rows.map((row) => [row.path, row]));
    },
    close: () => client.end(),
  };
}

/** The inventory as the proxy at this admin port tells it. */
function askedOf(endpoint) {
  return {
    async rows(bucket, keys) {
      const found = new Map();
      const prefix = commonPrefix(keys);
      const query = new URLSearchParams({ bucket, prefix, deleted: "true" });
      do {
        const answer = await fetch(new URL(`/api/v1/inventory?${query}`, endpoint));
        // No row of the bucket has been written yet.
        if (answer.status === 404) return found;
        if (!answer.ok) throw new Error(`the admin port answered ${answer.status}`);
        const { rows, next } = await answer.json();
        for (const row of rows) found.set(row.key, row);
        query.set("after", next ?? "");
      } while (query.get("after"));
      return found;
    },
    close: async () => {},
  };
}

function commonPrefix([first, ...others]) {
  let length = first.length;
  for (const key of others) while (!key.startsWith(first.slice(0, length))) length -= 1;
  return first.slice(0, length);
}

/** `my-data` is in `bucket_my_data`: every run of other characters becomes one underscore. */
function tableName(bucket) {
  return `bucket_${bucket.replace(/[^a-z0-9]+/g, "_")}`;
}
