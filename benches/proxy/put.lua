-- For wrk: uploads of zeros, each to a key of its own. Arguments: body size in bytes, and a word
-- that no other run has used.
local threads = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function init(args)
  local size = tonumber(args[1])
  before = string.format("PUT /bench/%d/%s-%d-", size, args[2], thread_number)
  after = string.format(
    " HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n",
    wrk.headers["Host"] or "127.0.0.1", size) .. string.rep("\0", size)
  counter = 0
end

function request()
  counter = counter + 1
  return before .. counter .. after
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"errors":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests - e.status, e.connect + e.read + e.write + e.status + e.timeout,
    summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99)))
end
