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
local function body(prompt)
  -- misses fill a partition of their own: a hit's search is measured beside few neighbours
  local model = case == "miss" and "other" or "m"
  return '{"model":"' .. model .. '","messages":[{"role":"user","content":"' .. prompt .. '"}]}'
end
local fixed = { exact = "What is the capital of France?", off = "What is the capital of France?",
                semantic = "What is the capital city of France?" }
local seed, count = os.time() % 1000000, 0
local threads = 0
function setup(thread) thread:set("id", threads); threads = threads + 1 end
request = function()
  local prompt = fixed[case]
  if not prompt then
    count = count + 1
    prompt = "Question " .. seed .. "-" .. id .. "-" .. count .. ": how far is it?"
  end
  return wrk.format("POST", path, headers, body(prompt))
end
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %.0f %.0f %.0f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), bad))
end
