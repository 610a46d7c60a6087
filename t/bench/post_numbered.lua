-- SPDX-License-Identifier: Apache-2.0
-- wrk script of t/bench/compare: posts the file named by BENCH_BODY, in which one of two places of eight digits is another
-- number each time, and prints one line of figures that compare reads:
-- FIGURES requests microseconds p50_us p99_us errors
--   BENCH_FRESH    1: the place in the prompt, so that no prompt is asked twice; else the one outside
--   BENCH_FIRST    the first number
--   BENCH_HEADERS  further header lines
-- A fixed prompt costs the client as much as a fresh one, or the latencies could not be compared.
local file = assert(io.open(assert(os.getenv("BENCH_BODY"), "BENCH_BODY is not set"), "rb"))
local text = file:read("*a")
file:close()
local number = tonumber(os.getenv("BENCH_FIRST"))
local slot = "########"
local still = "00000000"
local before, after
local made, at = {}, 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
for name, value in os.getenv("BENCH_HEADERS"):gmatch("([^:\n]+): ([^\n]*)") do
    wrk.headers[name] = value
end

local function numbered()
    number = (number + 1) % 100000000
    return before .. string.format("%08d", number) .. after
end

function init()
    local whole = wrk.format(nil, nil, nil, text)
    local one = assert(whole:find(slot, 1, true), "no place for a number")
    local two = assert(whole:find(slot, one + 8, true), "no second place for a number")
    if os.getenv("BENCH_FRESH") == "1" then
        before = whole:sub(1, one - 1) .. still .. whole:sub(one + 8, two - 1)
        after = whole:sub(two + 8)
    else
        before = whole:sub(1, one - 1)
        after = whole:sub(one + 8, two - 1) .. still .. whole:sub(two + 8)
    end
    -- Copying large bodies anew would take as long as sending them.
    if #text > 100000 then
        for i = 1, 32 do
            made[i] = numbered()
        end
    end
end

function request()
    if #made > 0 then
        at = at % #made + 1
        return made[at]
    end
    return numbered()
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("FIGURES %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
