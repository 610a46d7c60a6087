-- SPDX-License-Identifier: Apache-2.0
-- wrk script of t/bench/run: posts the file named by BENCH_BODY and prints one line of figures that run reads:
-- FIGURES requests microseconds p50_us p99_us errors
local file = assert(io.open(assert(os.getenv("BENCH_BODY"), "BENCH_BODY is not set"), "rb"))

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = file:read("*a")
file:close()

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("FIGURES %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
