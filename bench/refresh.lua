-- wrk: refresh tokens, each used once: what an answer gives is asked with next. BENCH_TOKENS is a file of them, a line each
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"

local tokens, first, last = {}, 1, 0
local form = os.getenv("BENCH_BODY")

init = function(args)
  for line in io.lines(os.getenv("BENCH_TOKENS")) do
    last = last + 1
    tokens[last] = line
  end
end

request = function()
  local token = tokens[first]
  tokens[first] = nil
  first = first + 1
  return wrk.format(nil, nil, nil, form .. token)
end

response = function(status, headers, body)
  local token = string.match(body, '"refresh_token":"([^"]+)"')
  if token then
    last = last + 1
    tokens[last] = token
  end
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "bad": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
