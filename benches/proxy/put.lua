-- For wrk: uploads of zeros, each to a key of its own. Arguments: body size in bytes, and a word
-- that no other run has used. report.lua is appended to this.
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
