// AWS SDK for JavaScript v3 and minio-js; the first argument says which. See ../job.py.
import { createReadStream, createWriteStream, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

const { ENDPOINT, BUCKET, PREFIX, ACCESS_KEY, SECRET_KEY, IN, OUT } = process.env
const KEYS_CASE = 'keys'
const CASES = ['0', '1', '70KiB', '20MiB', 'stream', KEYS_CASE]
const CONTENT_TYPE = 'text/x-conformance'
const METADATA = { origin: 'conformance suite' }
const PART_BYTES = 5 * 1024 * 1024

const source = (name) => join(IN, name)
const key = (name) => `${PREFIX}/${name}`
const save = (body, name) => pipeline(body, createWriteStream(join(OUT, name)))

async function everyKey(putAndGet) {
  const failed = []
  for (const text of JSON.parse(await readFile(source('keys.json'), 'utf8'))) {
    const data = Buffer.from(text)
    const got = await putAndGet(`${key(KEYS_CASE)}/${text}`, data).catch(() => null)
    if (!got?.equals(data)) failed.push(text)
  }
  if (failed.length) throw new Error(`keys that failed: ${JSON.stringify(failed)}`)
}

async function aws() {
  const { S3Client, PutObjectCommand, GetObjectCommand } = await import('@aws-sdk/client-s3')
  const { Upload } = await import('@aws-sdk/lib-storage')
  const client = new S3Client({
    endpoint: ENDPOINT,
    region: 'us-east-1',
    forcePathStyle: true,
    ...(ACCESS_KEY
      ? { credentials: { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY } }
      : { signer: { sign: async (request) => request }, credentials: { accessKeyId: '', secretAccessKey: '' } }),
  })
  return async (name) => {
    if (name === KEYS_CASE) {
      return everyKey(async (Key, Body) => {
        await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }))
        const got = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key }))
        return Buffer.from(await got.Body.transformToByteArray())
      })
    }
    const params = {
      Bucket: BUCKET,
      Key: key(name),
      ContentType: CONTENT_TYPE,
      Metadata: METADATA,
    }
    if (name === '20MiB') {
      await new Upload({ client, params: { ...params, Body: createReadStream(source(name)) } }).done()
    } else if (name === 'stream') {
      // A stream goes out in aws-chunked framing with its checksum as a trailer.
      const ContentLength = statSync(source(name)).size
      const Body = createReadStream(source(name))
      await client.send(new PutObjectCommand({ ...params, Body, ContentLength }))
    } else {
      await client.send(new PutObjectCommand({ ...params, Body: await readFile(source(name)) }))
    }
    const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key(name) }))
    await save(Body, name)
  }
}

async function minio() {
  const { Client } = await import('minio')
  const { hostname, port } = new URL(ENDPOINT)
  const client = new Client({
    endPoint: hostname,
    port: Number(port),
    useSSL: false,
    region: 'us-east-1',
    accessKey: ACCESS_KEY,
    secretKey: SECRET_KEY,
    partSize: PART_BYTES,
  })
  const headers = { 'Content-Type': CONTENT_TYPE, ...METADATA }
  return async (name) => {
    if (name === KEYS_CASE) {
      return everyKey(async (path, data) => {
        await client.putObject(BUCKET, path, data, data.length)
        return buffer(await client.getObject(BUCKET, path))
      })
    }
    if (name === '20MiB') {
      await client.fPutObject(BUCKET, key(name), source(name), headers)
    } else if (name === 'stream') {
      const body = createReadStream(source(name)).pipe(new PassThrough())
      await client.putObject(BUCKET, key(name), body, undefined, headers)
    } else {
      const body = await readFile(source(name))
      await client.putObject(BUCKET, key(name), body, body.length, headers)
    }
    await save(await client.getObject(BUCKET, key(name)), name)
  }
}

const perform = await { aws, minio }[process.argv[2]]()
for (const name of CASES) {
  let error = null
  try {
    await perform(name)
  } catch (fault) {
    error = String(fault)
    console.error(fault)
  }
  console.log(JSON.stringify({ case: name, error }))
}
process.exit(0)
