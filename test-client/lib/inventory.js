// The PostgreSQL inventory, read the way any program would: one table per bucket.
import pg from "pg";

/**
 * Opens the inventory from the variables the proxy itself reads. `reason` is set instead when
 * there is none to look at.
 */
export async function openInventory() {
  const env = process.env;
  if (env.DISABLE_DATABASE === "true") return { reason: "DISABLE_DATABASE is true" };
  if (!env.POSTGRES_URL && !env.POSTGRES_PASSWORD) {
    return { reason: "neither POSTGRES_URL nor POSTGRES_PASSWORD is set" };
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

/** `my-data` is in `bucket_my_data`: every run of other characters becomes one underscore. */
function tableName(bucket) {
  return `bucket_${bucket.replace(/[^a-z0-9]+/g, "_")}`;
}
