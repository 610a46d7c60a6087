#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Self test of the programmable mock upstream: selftest.sh [path of the mock binary]
# Starts one mock on free ports of 127.0.0.1, drives it with curl, prints TAP lines; exit status 1 when one failed.
set -u

here=$(cd "$(dirname "$0")" && pwd)
mock=${1:-$here/mock}
tmp=$(mktemp -d)
n=0
failed=0
pid=

cleanup() {
    [ -n "$pid" ] && kill "$pid" 2>/dev/null
    rm -rf "$tmp"
}
trap cleanup EXIT

# ok NAME CONDITION...: runs the condition
ok() {
    local name=$1
    shift
    n=$((n + 1))
    if "$@"; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
        failed=$((failed + 1))
    fi
}

# is NAME GOT WANT
is() {
    n=$((n + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1"
        echo "#   got:  ${2:0:300}"
        echo "#   want: ${3:0:300}"
        failed=$((failed + 1))
    fi
}

# has NAME TEXT PART
has() {
    n=$((n + 1))
    case $2 in
    *"$3"*) echo "ok $n - $1" ;;
    *)
        echo "not ok $n - $1"
        echo "#   no \"$3\" in: ${2:0:300}"
        failed=$((failed + 1))
        ;;
    esac
}

# between NAME VALUE LOW HIGH (integers)
between() {
    ok "$1 ($2)" test "$2" -ge "$3" -a "$2" -le "$4"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$tmp/key" -out "$tmp/cert" 2>/dev/null

"$mock" --port 0 --name second --port 0 --tls-port 0 --rcvbuf 4096 --port 0 --control-port 0 \
    --blackhole-port 0 --cert "$tmp/cert" --key "$tmp/key" --pidfile "$tmp/pid" >"$tmp/out" &
pid=$!
for _ in $(seq 100); do
    grep -q '^ready$' "$tmp/out" && break
    sleep 0.05
done
mapfile -t ports < <(awk '$1 == "port" { print $2 }' "$tmp/out")
p1=${ports[0]}
p2=${ports[1]}
small=${ports[2]}
tlsp=$(awk '$1 == "tls-port" { print $2 }' "$tmp/out")
ctl=$(awk '$1 == "control-port" { print $2 }' "$tmp/out")
hole=$(awk '$1 == "blackhole-port" { print $2 }' "$tmp/out")
u1=http://127.0.0.1:$p1/v1/chat/completions
e1=http://127.0.0.1:$p1/v1/embeddings
c=http://127.0.0.1:$ctl/__mock
chat='{"model":"gpt-x","messages":[{"role":"user","content":"hi"}]}'
schat='{"model":"gpt-x","stream":true,"stream_options":{"include_usage":true},"messages":[]}'

post() { curl -sS -m 10 -H 'Content-Type: application/json' "$@" 2>>"$tmp/err"; }
reset() { post -X POST "$c/reset" >/dev/null; }
behave() { post "$c/behave" -d "$1"; }
now_ms() { date +%s%3N; }
# get FILTER: jq over the records
get() { curl -sS "$c/requests" | jq -rc "$1"; }
# code ARGS...: exit status of curl
code() {
    post -o /dev/null "$@"
    echo $?
}
# send BYTES (printf format): one connection; prints the first line of the answer
send() { timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$p1; printf '$1' >&3; head -1 <&3" | tr -d '\r'; }
# one BEHAVIOUR ARGS...: scripts the next request, then sends it
one() {
    reset
    behave "{\"do\":$1}" >/dev/null
    shift
    post "$@"
}

is "pid file" "$(cat "$tmp/pid")" "$pid"

# --- normal answers
a=$(post "$u1" -d "$chat")
is "chat: model echoed" "$(jq -r .model <<<"$a")" gpt-x
is "chat: text names the model and the mock" "$(jq -r '.choices[0].message.content' <<<"$a")" \
    "I am gpt-x, played by mock."
is "chat: usage" "$(jq -c .usage <<<"$a")" '{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}'
has "second port has its own name" "$(post "http://127.0.0.1:$p2/x" -d "$chat")" "played by second"
a=$(post -N "$u1" -d "$schat")
is "stream: ends with [DONE]" "$(grep -c '^data: \[DONE\]$' <<<"$a")" 1
is "stream: usage chunk has no choices" \
    "$(sed -n 's/^data: {/{/p' <<<"$a" | jq -c 'select(.usage) | [.choices,.usage.total_tokens]')" '[[],18]'
is "stream: chunks" "$(sed -n 's/^data: {/{/p' <<<"$a" | wc -l)" 8
is "stream: text" "$(sed -n 's/^data: {/{/p' <<<"$a" | jq -rj '.choices[0].delta.content // ""')" \
    "I am gpt-x, played by mock. 1 2 3 4"
is "models" "$(curl -sS "http://127.0.0.1:$p1/v1/models" | jq -r '.data[0].id')" mock
is "GET elsewhere is 404" "$(curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$p1/zzz")" 404
is "nested and escaped members are not taken for the model" "$(post "$u1" \
    -d '{"a":{"model":"no"},"b":"\",\"model\":\"no\"","model":"yes","c":[{"model":"no"}]}' | jq -r .model)" yes
has "body that is no JSON" "$(post "$u1" -d 'x')" '"model":"mock"'

# --- records
reset
post "$u1?a=b" -H 'X-Twice: 1' -H 'X-Twice: 2' -d "$chat" >/dev/null
printf '\xff\xfe' | post "$u1" --data-binary @- >/dev/null
post -H 'Transfer-Encoding: chunked' "$u1" -d "$chat" >/dev/null
is "record: method, path" "$(get '.[0] | [.method,.path]')" '["POST","/v1/chat/completions?a=b"]'
is "record: repeated headers" "$(get '[.[0].headers[] | select(.[0]=="X-Twice")[1]]')" '["1","2"]'
is "record: body" "$(get '.[0].body')" "$chat"
is "record: body that is not UTF-8" "$(get '.[1].body_base64')" '//4='
is "record: chunked body decoded" "$(get '.[2].body')" "$chat"
is "record: port, tls, flags" "$(get '.[0] | [.port,.tls,.complete,.answered,.closed_early]')" \
    "[$p1,false,true,true,false]"
is "record: filter by port" "$(curl -sS "$c/requests?port=$p2" | jq length)" 0
is "record: after" "$(curl -sS "$c/requests?after=$(get '.[1].seq')" | jq length)" 1
reset
post "$u1" -d "$chat" "$u1" -d "$chat" >/dev/null
is "record: request number on its connection" "$(get '[.[].connection_request]')" '[1,2]'
is "record: same connection" "$(get '[.[].connection] | unique | length')" 1
is "count" "$(curl -sS "$c/count" | jq -c '[.request,.answered,.recorded,.dropped]')" '[2,2,2,0]'
curl -sS "$c/wait?event=closed&port=$p1" >/dev/null
is "connections" "$(curl -sS "$c/connections" | jq -c ".[0] | [.opened,.closed,.open]")" '[1,1,0]'
post -k "https://127.0.0.1:$tlsp/v1/chat/completions" -d "$chat" >"$tmp/a"
is "tls: answer and record" "$(jq -r .model "$tmp/a") $(get '.[-1].tls')" "gpt-x true"
head -c 300000 /dev/zero | tr '\0' x >"$tmp/big"
is "100-continue and a large body over tls" "$(post -k "https://127.0.0.1:$tlsp/x" -H 'Expect: 100-continue' \
    --data-binary @"$tmp/big" | jq -r .model) $(get '.[-1].body | length')" "mock 300000"

# --- behaviours: plain ones
is "status, reason, repeated headers" "$(one '{"status":429,"reason":"Slow Down","headers":[["A","1"],["A","2"]]}' \
    -i "$u1" -d "$chat" | tr -d '\r' | grep -c -e '^HTTP/1.1 429 Slow Down$' -e '^A: [12]$')" 3
has "error body" "$(one '{"status":500}' "$u1" -d "$chat")" '"code":"mock_500"'
is "times 2, then normal" "$(reset; behave '{"times":2,"do":{"status":503}}' >/dev/null; for _ in 1 2 3; do
    post -o /dev/null -w '%{http_code} ' "$u1" -d "$chat"; done)" "503 503 200 "
is "only the given port and path" "$(reset; behave "{\"port\":$p2,\"path\":\"/v2\",\"do\":{\"status\":503}}" >/dev/null
    for u in "$u1" "http://127.0.0.1:$p2/v1" "http://127.0.0.1:$p2/v2/x"; do
        post -o /dev/null -w '%{http_code} ' "$u" -d "$chat"; done)" "200 200 503 "
is "only the given model" "$(reset; behave '{"model":"m2","do":{"status":503}}' >/dev/null
    for m in m1 m2; do post -o /dev/null -w '%{http_code} ' "$u1" -d "{\"model\":\"$m\"}"; done)" "200 503 "
is "only requests without a header" "$(reset; behave '{"unless_header":"X-Key: right","times":-1,"do":{"status":401}}' >/dev/null
    for key in right wrong Right; do post -o /dev/null -w '%{http_code} ' -H "X-Key: $key" "$u1" -d "$chat"; done)" "200 401 401 "
is "only later requests of a connection" "$(reset; behave '{"conn_request_min":2,"do":{"status":503}}' >/dev/null
    post -o /dev/null -w '%{http_code} ' "$u1" -d "$chat" --next -sS -o /dev/null -w '%{http_code} ' "$u1" -d "$chat")" \
    "200 503 "
is "body, content type" "$(one '{"body":"[","content_type":"text/odd"}' -w ' %{content_type}' "$u1" -d "$chat")" \
    "[ text/odd"
is "no content type" "$(one '{"content_type":null}' -o /dev/null -w '%{content_type}' "$u1" -d "$chat")" ""
is "body_size, larger: still JSON" "$(one '{"body_size":5000}' -o "$tmp/a" -w '%{size_download}' "$u1" -d "$chat"
    jq -r .model "$tmp/a")" "5000gpt-x"
is "body_size, smaller" "$(one '{"body_size":3}' "$u1" -d "$chat")" xxx
is "content, model, usage" "$(one '{"content":"a\"b","model":"m2","usage":{"total_tokens":3}}' "$u1" -d "$chat" |
    jq -c '[.choices[0].message.content,.model,.usage]')" '["a\"b","m2",{"total_tokens":3}]'
is "usage null" "$(one '{"usage":null}' "$u1" -d "$chat" | jq 'has("usage")')" false
is "echo" "$(one '{"echo":true}' "$u1" -d "$chat" | jq -r .body)" "$chat"
has "chunked" "$(one '{"chunked":true}' -i "$u1" -d "$chat")" "Transfer-Encoding: chunked"
is "until_close: no length" "$(one '{"until_close":true}' -i "$u1" -d "$chat" | grep -ci -e ^content-length -e ^transfer)" 0
has "close" "$(one '{"close":true}' -i "$u1" -d "$chat")" "Connection: close"
is "interim answers" "$(one '{"interim":[100,103]}' -i "$u1" -d "$chat" | grep -c ^HTTP/1.1)" 3
is "keepalive_limit" "$(reset; behave '{"times":-1,"do":{"keepalive_limit":2}}' >/dev/null
    post -d "$chat" -o /dev/null "$u1" -o /dev/null "$u1" -o /dev/null "$u1"; get '[.[].connection_request]')" '[1,2,1]'
is "raw" "$(one '{"raw":"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi"}' "$u1" -d "$chat")" hi
is "raw_base64, close" "$(one '{"raw_base64":"SFRUUC8xLjEgMjAwIE9LDQoNCnl1cA==","close":true}' "$u1" -d "$chat")" yup
ok "HTTP/0.9" test "$(one '{"raw":"hello\n","close":true}' "$u1" -d "$chat" >/dev/null; tail -1 "$tmp/err" |
    grep -c 'HTTP/0.9')" = 1

# --- behaviours: time
t=$(now_ms); one '{"delay_ms":150}' "$u1" -d "$chat" >/dev/null
between "delay_ms" $(($(now_ms) - t)) 145 1000
is "head_delay_ms" "$(one '{"head_delay_ms":200}' -o /dev/null -w '%{time_starttransfer} %{time_total}' "$u1" -d "$chat" |
    awk '{ print ($1 < 0.15 && $2 >= 0.195) ? "yes" : $0 }')" yes
is "trickle: time" "$(one '{"body":"0123456789","trickle":{"bytes":2,"interval_ms":30}}' -w ' %{time_total}' "$u1" \
    -d "$chat" | awk '{ print $1, ($2 >= 0.115) ? "slow" : $2 }')" "0123456789 slow"
is "trickle for ever" "$(one '{"status":500,"trickle":{"bytes":50,"interval_ms":5,"forever":true}}' -m 0.4 -o /dev/null \
    -w '%{http_code} %{exitcode}' "$u1" -d "$chat")" "500 28"
is "stream: events, interval, no [DONE]" "$(one \
    '{"stream":{"events":["a",{"raw":": note\n\n"},"b"],"interval_ms":60,"sse_end":"none"}}' \
    -N -w '%{time_total}' "$u1" -d "$chat" | awk '/^[0-9.]+$/ { print ($0 >= 0.115) ? "slow" : $0; next } /./')" \
    $'data: a\n: note\ndata: b\nslow'
is "stream: crlf" "$(one '{"stream":{"events":["a"],"crlf":true}}' "$u1" -d "$chat" | od -An -c | tr -d ' \n')" \
    'data:a\r\n\r\ndata:[DONE]\r\n\r\n'
one '{"stream":{"events":["abcdefgh"],"split_bytes":3}}' -i --raw "$u1" -d "$chat" >"$tmp/a"
is "stream: split_bytes" "$(tr -d '\r' <"$tmp/a" | grep -c '^3$')" 10
has "stream: error event" "$(one '{"error_event":2}' "$u1" -d "$schat")" '"code":"mock_stream_error"'
is "stream: error event ends it" "$(one '{"error_event":2}' "$u1" -d "$schat" | grep -c ^data)" 3

# --- behaviours: faults (curl: 18 partial, 28 timeout, 52 empty reply, 56 receive failure)
is "cut stream" "$(one '{"stream":{"auto":2,"sse_end":"cut"}}' -o /dev/null -w '%{exitcode}' "$u1" -d "$chat")" 18
is "cut_after_bytes" "$(one '{"body_size":900,"cut_after_bytes":100}' -o /dev/null -w '%{exitcode} %{size_download}' \
    "$u1" -d "$chat")" "18 100"
is "cut by reset" "$(one '{"body_size":900,"cut_after_bytes":100,"reset":true}' -o /dev/null -w '%{exitcode}' \
    "$u1" -d "$chat")" 56
is "stall_after_bytes" "$(one '{"body_size":900,"stall_after_bytes":100}' -m 0.3 -o /dev/null \
    -w '%{exitcode} %{size_download}' "$u1" -d "$chat")" "28 100"
is "drop_before_head" "$(one '{"drop_before_head":true}' -o /dev/null -w '%{exitcode}' "$u1" -d "$chat")" 52
is "reset before head" "$(one '{"drop_before_head":true,"reset":true}' -o /dev/null -w '%{exitcode}' "$u1" -d "$chat")" 56
is "hang" "$(one '{"hang":true}' -m 0.3 -o /dev/null -w '%{exitcode}' "$u1" -d "$chat")" 28
curl -sS "$c/wait?event=early_close" >/dev/null
between "hang: early close is recorded with its time" "$(get '.[0] | select(.closed_early) | .closed_after_ms | floor')" \
    250 900
is "hang_after_head" "$(one '{"hang_after_head":true}' -m 0.3 -o /dev/null -w '%{http_code} %{exitcode}' "$u1" -d "$chat")" \
    "200 28"
is "accept_close" "$(reset; behave "{\"port\":$p1,\"do\":{\"accept_close\":true,\"reset\":true}}" >/dev/null
    code "$u1" -d "$chat" | grep -cx -e 7 -e 56)" 1
is "accept_hang: a TLS handshake that does not come" "$(reset
    behave "{\"port\":$tlsp,\"do\":{\"accept_hang\":true}}" >/dev/null
    code -m 0.3 -k "https://127.0.0.1:$tlsp/" -d "$chat")" 28
reset
behave '{"do":{"silent_close_ms":0}}' >/dev/null
is "silent close" "$(post -i "$u1" -d "$chat" | grep -ci ^connection)" 0
is "silent close: connection is gone" "$(curl -sS "$c/wait?event=closed&timeout_ms=500" | jq .ok)" true
reset
behave '{"do":{"early":true,"status":413}}' >/dev/null
is "early: answered before the body" "$(send 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n')" "HTTP/1.1 413 Content Too Large"
head -c 8000000 /dev/zero >"$tmp/huge"
reset
behave '{"do":{"no_read":true}}' >/dev/null
sent=$(post -m 0.5 -o /dev/null -w '%{size_upload}' -H Expect: "http://127.0.0.1:$small/" --data-binary @"$tmp/huge")
ok "no_read: the writer stalls ($sent of 8000000 bytes)" test "$sent" -lt 8000000
is "no_read for a while" "$(one '{"no_read":200}' -o /dev/null -w '%{http_code} %{time_total}' "$u1" -d "$chat" |
    awk '{ print $1, ($2 >= 0.195) ? "late" : $2 }')" "200 late"
is "slow_read" "$(one '{"slow_read":{"bytes":50000,"interval_ms":40}}' -o /dev/null -w '%{http_code} %{time_total}' \
    -H Expect: "$u1" --data-binary @"$tmp/big" | awk '{ print $1, ($2 >= 0.15) ? "slow" : $2 }')" "200 slow"
is "black hole: connect times out" "$(code --connect-timeout 0.3 "http://127.0.0.1:$hole/")" 28

# --- by model name
for row in mock-500:500/0 mock-429:429/0 mock-418:418/0 mock-drop:000/52 mock-reset:000/56 mock-cut:200/18; do
    is "model ${row%%:*}" "$(post -o /dev/null -w '%{http_code}/%{exitcode}' "$u1" -d "{\"model\":\"${row%%:*}\"}")" \
        "${row#*:}"
done
has "model mock-429 says when to come back" "$(post -i "$u1" -d '{"model":"mock-429"}')" "Retry-After: 1"
is "model mock-badjson" "$(post "$u1" -d '{"model":"mock-badjson"}')" '{"choices": ['

# --- control
has "unknown member is refused" "$(behave '{"do":{"statsu":500}}')" 'statsu'
has "wrong type is refused" "$(behave '{"do":{"status":"500"}}')" 'wrong type'
has "unknown member beside do is refused" "$(behave '{"prot":1,"do":{}}')" error
has "foreign port is refused" "$(behave '{"port":1,"do":{}}')" 'not one of mine'
reset
behave '[{"do":{"status":503}},{"do":{"statsu":1}}]' >/dev/null
is "a list is queued whole or not at all" "$(curl -sS "$c/count" | jq .behaviours_left)" 0
is "wait: time-out" "$(curl -sS -o /dev/null -w '%{http_code}' "$c/wait?event=request&count=9&timeout_ms=100")" 504
(sleep 0.2; post -o /dev/null "$u1" -d "$chat") &
t=$(now_ms)
is "wait: woken by the event" "$(curl -sS "$c/wait?event=request&count=1&timeout_ms=4000" | jq -c .)" '{"ok":true,"count":1}'
between "wait: at once" $(($(now_ms) - t)) 100 1500
wait %2 2>/dev/null
is "control port serves nothing else" "$(post -o /dev/null -w '%{http_code}' "http://127.0.0.1:$ctl/v1" -d "$chat")" 404
is "control path on a normal port is not recorded" "$(reset; curl -sS "http://127.0.0.1:$p1/__mock/count" | jq .request)" 0
post "$c/port" -d "{\"port\":$p2,\"listen\":false}" >/dev/null
is "port closed: refused" "$(code "http://127.0.0.1:$p2/")" 7
post "$c/port" -d "{\"port\":$p2,\"listen\":true}" >/dev/null
is "port opened again" "$(code "http://127.0.0.1:$p2/v1" -d "$chat")" 0
reset
exec 3<>"/dev/tcp/127.0.0.1/$p1"
printf 'POST /k HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}' >&3
curl -sS "$c/wait?event=answered" >/dev/null
post "$c/close" -d "{\"port\":$p1}" >/dev/null
is "close: idle connections end" "$(timeout 2 cat <&3 | head -c 15)" "HTTP/1.1 200 OK"
exec 3>&-

# --- malformed requests are told apart
reset
is "two lengths: 400" "$(send 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx')" \
    "HTTP/1.1 400 Bad Request"
send 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' >/dev/null
send 'POST / HTTP/1.1\nHost: a\r\n\r\n' >/dev/null
send 'POST / HTTP/1.1\r\nHost : a\r\n\r\n' >/dev/null
send 'POST / HTTP/1.1\r\n\r\n' >/dev/null
send 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n' >/dev/null
is "malformed requests: reasons" "$(get '[.[].malformed] | join(";")')" \
"more than one Content-Length;Content-Length together with Transfer-Encoding;bad HTTP version;bad header name;no Host;bad chunk"
reset
is "pipelined requests" "$(timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$p1
    printf 'GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3
    cat <&3" | grep -o 'HTTP/1.1 404' | wc -l)" 2

# --- embeddings stub
emb() { post "$e1" -d "$1"; }
is "embeddings: default dimensions" "$(emb '{"model":"m","input":"x"}' | jq '.data[0].embedding | length')" 1536
is "embeddings: unit length" "$(emb '{"model":"m","input":"x","dimensions":384}' |
    jq '[.data[0].embedding[] | . * .] | add | . * 10000 | round')" 10000
is "embeddings: exact axes" "$(emb '{"model":"m","input":"axis:1 0.25 axis:2 -0.5","dimensions":256}' |
    jq -c '.data[0].embedding[0:4]')" '[0,0.25,-0.5,0]'
is "embeddings: base64 equals float" "$(emb '{"model":"m","input":"x","dimensions":64,"encoding_format":"base64"}' |
    jq -r '.data[0].embedding' | base64 -d | od -An -v -tf4 -w4 | awk '{ printf "%.5f ", $1 }')" \
    "$(emb '{"model":"m","input":"x","dimensions":64}' | jq -r '.data[0].embedding[]' | awk '{ printf "%.5f ", $1 }')"
is "embeddings: batch" "$(emb '{"model":"m","input":["a","b"],"dimensions":8}' |
    jq -c '[(.data | map(.index)),.usage.prompt_tokens,.model]')" '[[0,1],16,"m"]'
is "embeddings: token arrays" "$(emb '{"model":"m","input":[[1,2],[3]],"dimensions":8}' | jq '.data | length')" 2
is "embeddings: empty input" "$(emb '{"model":"m","input":""}' | jq -r .error.type)" invalid_request_error
is "stub-zero" "$(emb '{"model":"stub-zero","input":"a","dimensions":4}' | jq -c '.data[0].embedding')" '[0,0,0,0]'
has "stub-nan" "$(emb '{"model":"stub-nan","input":"a","dimensions":4}')" 'NaN'
is "stub-short" "$(emb '{"model":"stub-short","input":"a","dimensions":4}' | jq '.data[0].embedding | length')" 3
is "stub-missing" "$(emb '{"model":"stub-missing","input":["a","b"]}' | jq '.data | length')" 1
is "stub-shuffled" "$(emb '{"model":"stub-shuffled","input":["a","b"]}' | jq -c '.data | map(.index)')" '[1,0]'
is "stub-float-only" "$(emb '{"model":"stub-float-only","input":"a","encoding_format":"base64"}' |
    jq -r '.data[0].embedding | type')" array
is "stub-500" "$(post -o /dev/null -w '%{http_code}' "$e1" -d '{"model":"stub-500","input":"a"}')" 500
has "stub-html" "$(emb '{"model":"stub-html","input":"a"}')" '<html>'
is "stub-hang" "$(code -m 0.3 "$e1" -d '{"model":"stub-hang","input":"a"}')" 28
t=$(now_ms); emb '{"model":"stub-slow","input":"a"}' >/dev/null
between "stub-slow" $(($(now_ms) - t)) 195 1000
is "embeddings: scripted behaviours apply" "$(reset; behave '{"path":"/v1/embeddings","do":{"status":429}}' >/dev/null
    post -o /dev/null -w '%{http_code}' "$e1" -d '{"model":"m","input":"a"}')" 429

# --- the known texts route as documented: every text is nearest to its topic, inside the threshold or outside all
# dist A B DIMENSIONS: cosine distance of two texts in thousandths
# The table in vectors_table.c is read for its topics, distances and texts.
table=$(sed -n 's/^ *{"\([^"]*\)", \([0-9.]*\),\( "\(.*\)"},\)\{0,1\}$/\1\t\2\t\4/p; s/^ *"\(.*\)"},$/\1/p' \
    "$here/vectors_table.c" | awk -F'\t' 'NF == 3 && $3 != "" { print; next } NF == 3 { held = $1 "\t" $2; next }
    { print held "\t" $0 }')
texts() { # texts FILTER: JSON array of the rows whose topic matches
    awk -F'\t' -v re="$1" '$1 ~ re' <<<"$table" | jq -Rnc '[inputs | split("\t") |
        {topic: .[0], distance: (.[1] | tonumber), text: (.[2] | gsub("\\\\xe2\\\\x80\\\\x99"; "\u2019"))}]'
}
rows_ok() { # rows_ok DIMENSIONS THRESHOLD TOPIC TOPIC
    texts "^($3|$4|[*])\$" >"$tmp/rows"
    jq -c --argjson d "$1" '{model: "m", dimensions: $d, input: map(.text)}' "$tmp/rows" | post "$e1" -d @- |
        jq -c '[.data[].embedding]' >"$tmp/vectors"
    jq -nr --slurpfile rows "$tmp/rows" --slurpfile vectors "$tmp/vectors" --argjson th "$2" '
        def dot($a; $b): reduce range($a | length) as $i (0; . + $a[$i] * $b[$i]);
        $rows[0] as $r | $vectors[0] as $v |
        [range($r | length) | select($r[.].distance == 0)] as $refs |
        [range($r | length) | select($r[.].distance > 0) | . as $i |
            ($refs | map({topic: $r[.].topic, d: (1 - dot($v[$i]; $v[.]))}) | sort_by(.d)) as $near |
            (if $near[0].d <= $th then $near[0].topic else "*" end) as $got |
            select($got != $r[$i].topic or ($near[0].d - $r[$i].distance | fabs) > 0.0001) | $r[$i].text] as $bad |
        "\($r | length) rows, \($refs | length) references, wrong: \($bad | join(" | "))"'
}
is "first configuration: 1536 dimensions, threshold 0.8" "$(rows_ok 1536 0.8 programming mathematics)" \
    "11 rows, 2 references, wrong: "
is "second configuration: 1024 dimensions, threshold 0.7" "$(rows_ok 1024 0.7 python it-support)" \
    "13 rows, 2 references, wrong: "

# --- end
kill "$pid"
wait "$pid"
is "ends on SIGTERM" "$?" 0
ok "pid file is gone" test ! -e "$tmp/pid"
pid=
echo "1..$n"
echo "$((n - failed)) passed, $failed failed"
[ "$failed" = 0 ]
