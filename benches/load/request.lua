-- wrk's request: a chat completion. CASE picks the prompt.
--   exact     one prompt, again and again
--   semantic  another wording of the prompt that the warm-up stored: never stored itself
--   miss      a prompt never seen before
--   off       the cache is told to stay out (x-reprise-mode: off)
local case = os.getenv("CASE")
local headers = { ["content-type"] = "application/json", ["authorization"] = "Bearer bench" }
if case == "off" then headers["x-reprise-mode"] = "off" end
-- more of them, one a line
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^\n:]+): ([^\n]+)") do headers[name] = value end
local path = "/v1/chat/completions"
local function body(prompt, model)
  return '{"model":"' .. model .. '","messages":[{"role":"user","content":"' .. prompt .. '"}]}'
end
local fixed = { exact = "What is the capital of France?", off = "What is the capital of France?",
                semantic = "What is the capital city of France?" }
local seed, count = os.time(), 0
request = function()
  if case ~= "miss" then return wrk.format("POST", path, headers, body(fixed[case], "m")) end
  count = count + 1
  -- About as long as the other prompts; another number is another question, and a later run has others, whose
  -- vectors nobody remembers. A hundred share a partition, which is none of the hits': a search is measured beside
  -- few neighbours.
  local model = "m" .. seed .. "-" .. math.floor(count / 100)
  return wrk.format("POST", path, headers, body("How far is " .. 10000 + (seed * 997 + count) % 90000 .. " km?", model))
end
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %.0f %.0f %.0f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), bad))
end
