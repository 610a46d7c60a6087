#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Requests signed by our own code against t/lib/aws_server.py, which checks them with botocore. TAP.

    sigv4_live.py --tool PATH_OF_sigv4_sign

Needs the packages of t/requirements-aws.txt.
"""

import argparse
import http.client
import json
import pathlib
import random
import re
import subprocess
import sys
import time
from urllib.parse import quote, urlencode

SERVER = pathlib.Path(__file__).parent / "lib" / "aws_server.py"
CHAT = "/openai/v1/chat/completions"
PERMANENT = {"access_key": "AKIATESTTESTTEST0001",
             "secret_key": "test/secret+0123456789abcdefABCDEF000000"}
ROUNDS = 300

results = []


def ok(good, name, detail=""):
    results.append(bool(good))
    print(f"{'ok' if good else 'not ok'} {len(results)} - {name}", flush=True)
    if not good:
        print("\n".join("#   " + line for line in str(detail).splitlines()), flush=True)


def refused(answer, status, words, name):
    text = answer[2].decode(errors="replace")
    ok(answer[0] == status and words in text, name, f"{answer[0]} {text}")


class Aws:
    """The server, the signer and one kept-alive connection between them."""

    def __init__(self, tool):
        self.signer = subprocess.Popen([tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.server = subprocess.Popen([sys.executable, SERVER, "--port", "0"],
                                       stdout=subprocess.PIPE)
        ready = self.server.stdout.readline().split()
        if ready[:1] != [b"ready"]:
            raise SystemExit("the server did not start")
        self.host = f"127.0.0.1:{int(ready[1])}"
        self.connection = http.client.HTTPConnection(self.host, timeout=20)
        self.sockets = set()

    def end(self):
        for process in (self.signer, self.server):
            process.terminate()
            process.wait(20)

    def sign(self, order):
        self.signer.stdin.write(json.dumps(order).encode() + b"\n")
        self.signer.stdin.flush()
        return json.loads(self.signer.stdout.readline())

    def send(self, method, target, headers, body):
        self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            self.connection.putheader(name, value.encode())
        self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body)
        self.sockets.add(self.connection.sock.getsockname())
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def call(self, method="POST", path=CHAT, query=None, body="", headers=(), change=None,
             add=(), keys=PERMANENT, region="us-east-1", service="bedrock", host=None, **more):
        """Signs a request, changes it as told, sends it."""
        order = {"method": method, "path": path, "query": query, "host": host or self.host,
                 "body": body, "headers": headers, "region": region, "service": service,
                 "time": int(time.time()), **keys, **more}
        signed = self.sign(order)
        if "error" in signed:
            raise SystemExit(f"not signed: {signed['error']} {order}")
        lines = [line.split(": ", 1) for line in signed["headers"].split("\r\n")[:-1]]
        sent = {"method": method, "path": path, "query": query, "body": body,
                "headers": [("Host", order["host"]), *headers, *lines, *add]}
        if change:
            change(sent)
        target = sent["path"] + ("?" + sent["query"] if sent["query"] else "")
        return self.send(sent["method"], target, sent["headers"], sent["body"].encode())

    def chat(self, **more):
        document = {"model": "m", "messages": [{"role": "user", "content": "hellö"}],
                    **more.pop("chat", {})}
        return self.call(body=json.dumps(document, ensure_ascii=False),
                         headers=[("Content-Type", "application/json")], **more)

    def control(self, verb, **document):
        method = "GET" if verb == "state" else "POST"
        answer = self.send(method, "/__cloud/" + verb, [("Host", self.host)],
                           json.dumps(document).encode())
        if answer[0] != 200:
            raise SystemExit(f"control: {answer}")
        return json.loads(answer[2])

    def plain(self, method, path, *headers, body=b""):
        return self.send(method, path, [("Host", self.host), *headers], body)

    def assume(self, change=None, action="AssumeRole", **more):
        form = {"Action": action, "Version": "2011-06-15", "RoleSessionName": "aip",
                "RoleArn": "arn:aws:iam::123456789012:role/gateway", **more}
        return self.call(path="/", body=urlencode(form), service="sts", change=change,
                         headers=[("Content-Type", "application/x-www-form-urlencoded")])


def keys_of_xml(text):
    def of(tag):
        return re.search(f"<{tag}>([^<]+)</{tag}>", text.decode())[1]
    return {"access_key": of("AccessKeyId"), "secret_key": of("SecretAccessKey"),
            "token": of("SessionToken")}


def keys_of_json(text):
    document = json.loads(text)
    return {"access_key": document["AccessKeyId"], "secret_key": document["SecretAccessKey"],
            "token": document["Token"]}


def chats(aws):
    for name in ("a chat", "the second request of the connection"):
        status, _, body = aws.chat()
        ok(status == 200 and json.loads(body)["choices"][0]["message"]["content"] ==
           "I am m, played by aws.", name, body)
    status, headers, body = aws.chat(chat={"stream": True,
                                           "stream_options": {"include_usage": True}})
    events = body.decode().split("\n\n")[:-1]
    ok(status == 200 and headers["Content-Type"] == "text/event-stream" and
       events[-1] == "data: [DONE]" and json.loads(events[-2][6:])["usage"]["total_tokens"] == 12,
       "a stream", body)
    ok(len(aws.sockets) == 1, "all on one connection")


def targets(aws):
    for path, query in (("/signed/model/acme.large-v1%3A0/converse", None),
                        ("/signed/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ax%2Fy", None),
                        ("/signed//a/./b/../c/", None), ("/signed/a:b@c=d,e+f;g", None),
                        ("/signed/%C3%A9%20x", "b=2&a-1=&a=%2F&a=%20&c"), ("/signed/~-._", "x=")):
        status, _, body = aws.call("GET", path, query)
        ok(status == 200 and json.loads(body) == {"method": "GET", "path": path,
                                                  "query": query or ""}, f"{path} {query}", body)
    status, _, body = aws.call("PUT", "/signed/x", headers=[
        ("X-B", "  two   words "), ("x-a", "1"), ("X-A", "2"), ("Accept", "*/*")])
    ok(status == 200, "further fields", body)


def tampering(aws):
    def replace(name, old, new):
        def change(sent):
            if name == "headers":
                sent[name] = [(key, value.replace(old, new)) for key, value in sent[name]]
            else:
                sent[name] = (sent[name] or "").replace(old, new) or new
        return change

    def without(name):
        def change(sent):
            sent["headers"] = [pair for pair in sent["headers"] if pair[0] != name]
        return change

    wrong = "InvalidSignatureException"
    fine = {"path": "/signed/a", "query": "q=1", "headers": [("X-Own", "yes")]}
    for name, change in (("body", replace("body", "hell", "help")),
                         ("method", replace("method", "POST", "PUT")),
                         ("path", replace("path", "/a", "/b")),
                         ("query", replace("query", "q=1", "q=2")),
                         ("field", replace("headers", "yes", "no"))):
        refused(aws.call(body="hello", change=change, **fine), 403, wrong, f"another {name}")
    refused(aws.chat(keys={**PERMANENT, "secret_key": "x" * 40}), 403, wrong, "a wrong secret")
    refused(aws.chat(keys={**PERMANENT, "access_key": "AKIANOBODY"}), 403,
            "UnrecognizedClientException", "an unknown key")
    refused(aws.chat(keys={**PERMANENT, "token": "t"}), 403, "InvalidClientTokenId",
            "a token that the key does not have")
    refused(aws.chat(region="eu-west-1"), 403, wrong, "another region")
    refused(aws.chat(service="sts"), 403, wrong, "another service")
    for seconds, name in ((-400, "a stale date"), (400, "a date in the future")):
        refused(aws.chat(time=int(time.time()) + seconds), 403, "expired", name)
    ok(aws.chat(time=int(time.time()) - 250)[0] == 200, "a clock that is a bit late")
    refused(aws.chat(change=without("Authorization")), 403, "MissingAuthenticationToken",
            "no Authorization")
    refused(aws.chat(change=without("X-Amz-Date")), 403, "x-amz-date is signed, but was not sent",
            "no date")
    refused(aws.chat(add=[("X-Amz-Target", "x")]), 403, "x-amz-target is not signed",
            "a field of AWS that is not signed")
    refused(aws.call(body="{}", add=[("Content-Type", "application/json")]), 403,
            "content-type is not signed", "a type that is not signed")
    status, _, body = aws.chat(flags=4)
    ok(status == 200, "X-Amz-Content-Sha256", body)
    ok(aws.control("state")["count"]["chat"] > 10, "the server has counted")


def roles(aws):
    status, _, body = aws.assume()
    keys = keys_of_xml(body) if status == 200 else {}
    ok(status == 200 and keys["access_key"].startswith("ASIA"), "AssumeRole", body)
    ok(aws.chat(keys=keys)[0] == 200, "a chat with temporary keys")
    unknown = "UnrecognizedClientException"
    refused(aws.chat(keys={**keys, "token": None}), 403, unknown, "without their token")
    other = keys_of_xml(aws.assume()[2])
    refused(aws.chat(keys={**keys, "token": other["token"]}), 403, unknown, "the token of others")
    refused(aws.chat(keys=keys, flags=8), 403, "x-amz-security-token is not signed",
            "a token that is not signed")
    aws.control("set", lifetime=-1)
    late = keys_of_xml(aws.assume()[2])
    refused(aws.chat(keys=late), 403, "ExpiredTokenException", "expired keys")
    aws.control("revoke")
    refused(aws.chat(keys=keys), 403, unknown, "keys from before they were revoked")
    aws.control("set", keys={"AKIAROTATED": "new"})
    refused(aws.chat(), 403, unknown, "permanent keys from before they were replaced")
    ok(aws.chat(keys={"access_key": "AKIAROTATED", "secret_key": "new"})[0] == 200, "the new ones")
    aws.control("reset")
    ok(aws.chat()[0] == 200, "reset brings the old ones back")

    refused(aws.assume(RoleArn="arn:aws:iam::1:role/x"), 403, "<Code>AccessDenied", "another role")
    refused(aws.assume(DurationSeconds="60"), 400, "ValidationError", "a duration that is too short")
    refused(aws.assume(change=lambda sent: sent.update(body=sent["body"] + "&X=1")), 403,
            "<Code>InvalidSignatureException", "another form than was signed")
    aws.control("set", external_id="e-1")
    refused(aws.assume(), 403, "AccessDenied", "no external id")
    ok(aws.assume(ExternalId="e-1")[0] == 200, "the external id")
    web = {"action": "AssumeRoleWithWebIdentity"}
    refused(aws.assume(**web, WebIdentityToken="x"), 400, "InvalidIdentityToken",
            "a wrong web identity")
    keys = keys_of_xml(aws.assume(**web, WebIdentityToken="web-identity-token")[2])
    ok(aws.chat(keys=keys)[0] == 200, "a web identity")


def metadata(aws):
    ttl = ("X-aws-ec2-metadata-token-ttl-seconds", "60")
    path = "/latest/meta-data/iam/security-credentials/"
    ok(aws.plain("GET", path)[0] == 401, "IMDS without a token")
    ok(aws.plain("PUT", "/latest/api/token")[0] == 400, "an IMDS token without a lifetime")
    ok(aws.plain("PUT", "/latest/api/token", ttl, ("X-Forwarded-For", "1.2.3.4"))[0] == 403,
       "an IMDS token for somebody else")
    ok(aws.plain("GET", "/latest/api/token", ttl)[0] == 405, "an IMDS token by GET")
    _, headers, body = aws.plain("PUT", "/latest/api/token", ttl)
    token = ("X-aws-ec2-metadata-token", body.decode())
    ok(headers[ttl[0]] == "60", "an IMDS token")
    role = aws.plain("GET", path, token)[2].decode()
    ok(role == "gateway", "the role's name")
    ok(aws.plain("GET", path + "x", token)[0] == 404, "another role")
    keys = keys_of_json(aws.plain("GET", path + role, token)[2])
    ok(aws.chat(keys=keys)[0] == 200, "a chat with keys of IMDS")
    path = "/v2/credentials/aip"
    ok(aws.plain("GET", path)[0] == 401, "container credentials without the token")
    ok(aws.plain("GET", path, ("Authorization", "x"))[0] == 401, "with a wrong one")
    keys = keys_of_json(aws.plain("GET", path, ("Authorization", "container-token"))[2])
    ok(aws.chat(keys=keys)[0] == 200, "a chat with keys of a container")
    aws.control("set", status={"container": 503}, body={"imds_role": "nonsense"})
    ok(aws.plain("GET", path, ("Authorization", "container-token"))[0] == 503, "failure as ordered")
    count = aws.control("state")["count"]
    ok(count["container"] == 4 and count["imds_token"] == 4 and count["imds_keys"] == 2, "counted",
       count)


def at_random(aws):
    """Whatever is sent, botocore computes the same."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    characters = [chr(n) for n in range(0x20, 0x7f)] + list("éß中😀\t\n")

    def text(least, most):
        return "".join(dice.choices(characters, k=dice.randint(least, most)))

    bad = 0
    for _ in range(ROUNDS):
        raw = dice.random() < 0.5  # some of what need not be encoded is sent as it is
        path = "/signed/" + "/".join(quote(text(0, 8), safe=":@!$'()*,=+;-._~" if raw else "-._~")
                                     + "x" for _ in range(dice.randint(1, 4)))
        query = "&".join(quote(text(1, 6), safe="-._~") + "=" + quote(text(0, 6), safe="-._~")
                         for _ in range(dice.randint(0, 5)))
        headers = [(dice.choice(["X-A", "x-a", "X-B1", "Accept"]),
                    "".join(c for c in text(0, 20) if c >= " " and ord(c) < 128))
                   for _ in range(dice.randint(0, 5))]
        answer = aws.call(dice.choice(["GET", "POST", "PUT", "DELETE"]), path, query,
                          text(0, 200), headers, flags=dice.choice([0, 4]))
        if answer[0] != 200:
            bad += 1
            print(f"#   {path} {query} {headers}: {answer[2].decode()}")
    ok(not bad, f"{ROUNDS} requests at random (seed {seed}), {bad} refused")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    aws = Aws(parser.parse_args().tool)
    try:
        for part in (chats, targets, tampering, roles, metadata, at_random):
            aws.control("reset")
            part(aws)
    finally:
        aws.end()
    print(f"1..{len(results)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
