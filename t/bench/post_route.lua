-- SPDX-License-Identifier: Apache-2.0
-- wrk script of t/bench/route: posts chats whose prompt has 20 words, and prints one line of figures that route reads:
-- FIGURES requests microseconds p50_us p99_us errors
--   BENCH_WORDS  the words prompts are made of
--   BENCH_HEAD   what each prompt begins with; counts as words
--   BENCH_FIXED  this prompt each time, instead of a fresh one
--   BENCH_FIRST  number of the first fresh prompt
local words = {}
for word in os.getenv("BENCH_WORDS"):gmatch("%S+") do
    words[#words + 1] = word
end
local head = os.getenv("BENCH_HEAD")
local fixed = os.getenv("BENCH_FIXED")
local number = tonumber(os.getenv("BENCH_FIRST"))
local _, head_words = head:gsub("%S+", "")
local before = '{"model":"any","messages":[{"role":"system","content":"Answer briefly."},{"role":"user","content":"' .. head
local after = '"}]}'

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

-- The first five words are the digits of a number, so that no two prompts are the same; the others are drawn.
local function fresh()
    local text, rest = {}, number
    number = number + 1
    for i = 1, 20 - head_words do
        local at = i > 5 and math.random(#words) - 1 or rest % #words
        text[i] = words[at + 1]
        rest = (rest - rest % #words) / #words
    end
    return table.concat(text, " ")
end

-- A fixed prompt costs the client as much as a fresh one, or the latencies could not be compared.
function request()
    local text = fresh()
    return wrk.format(nil, nil, nil, before .. (fixed or text) .. after)
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("FIGURES %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
