#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AWS for tests: a chat endpoint that checks Signature Version 4, and places to get keys from.

    aws_server.py --port PORT [--tls-port PORT --cert PEM --tls-key PEM]

The signature of what really arrived is computed with botocore. Control: see cloud_http.py.

    POST /openai/v1/chat/completions    signed for settings "service" and "region"
    any  /signed/...                    the same check; answers method, path and query
    POST /                              STS, signed for "sts": AssumeRole; unsigned:
                                        AssumeRoleWithWebIdentity
    PUT  /latest/api/token, GET /latest/meta-data/iam/security-credentials/[ROLE]   IMDSv2
    GET  /v2/credentials/aip            container credentials

Keys that were issued need their token and live for "lifetime" seconds (an STS caller may ask for
less); a negative lifetime issues what has expired. Kinds that are counted: chat, signed, sts,
web_identity, imds_token, imds_role, imds_keys, container.
"""

import datetime
import hashlib
import re
import secrets
import time
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cloud_http import Answer, App, Refused, arguments, chat_answer, listen, run

SETTINGS = {
    "keys": {"AKIATESTTESTTEST0001": "test/secret+0123456789abcdefABCDEF000000"},
    "region": "us-east-1",
    "service": "bedrock",
    "skew": 300,
    "lifetime": 3600,
    "role": "arn:aws:iam::123456789012:role/gateway",
    "external_id": None,
    "web_identity_token": "web-identity-token",
    "imds_role": "gateway",
    "container_token": "container-token",
}
AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/"
                           r"aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})")
STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
IMDS = "/latest/meta-data/iam/security-credentials/"


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%SZ")


def json_refusal(code, message, status=403):
    return Refused(status, f"{code}: {message}",
                   Answer(status, {"__type": code, "message": message},
                          headers={"x-amzn-ErrorType": code}))


def xml_refusal(code, message, status=403):
    return Refused(status, f"{code}: {message}", Answer(
        status, content_type="text/xml",
        text=f'<ErrorResponse xmlns="{STS_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
             f"<Message>{escape(message)}</Message></Error><RequestId>1</RequestId>"
             f"</ErrorResponse>"))


class Aws(App):
    def revoke(self):
        with self.lock:
            self.issued = {}  # access key: (secret, token, expires)
            self.imds_tokens = {}

    def issue(self, lifetime=None):
        """New temporary keys: access key, secret, token, time of expiry."""
        with self.lock:
            seconds = self.settings["lifetime"]
            if lifetime is not None:
                seconds = min(lifetime, seconds)
            keys = ("ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30),
                    secrets.token_urlsafe(300), time.time() + seconds)
            self.issued[keys[0]] = keys[1:]
            return keys

    def secret_of(self, access_key, token, refusal):
        with self.lock:
            if access_key in self.settings["keys"]:
                if token is not None:
                    raise refusal("InvalidClientTokenId", "these keys have no token")
                return self.settings["keys"][access_key]
            if access_key not in self.issued:
                raise refusal("UnrecognizedClientException", "unknown access key")
            secret, expected, expires = self.issued[access_key]
        if token != expected:
            raise refusal("UnrecognizedClientException", "the security token is not that of the key")
        if time.time() >= expires:
            raise refusal("ExpiredTokenException", "the security token has expired")
        return secret

    def check_signature(self, request, service, refusal=json_refusal):
        """Refuses what AWS would: the words of the reasons are ours."""
        given = request.one("Authorization")
        if given is None:
            raise refusal("MissingAuthenticationTokenException", "no Authorization")
        match = AUTHORIZATION.fullmatch(given)
        if not match:
            raise refusal("IncompleteSignatureException", f"Authorization is malformed: {given}")
        access_key, day, region, scope_service, names, signature = match.groups()
        names = names.split(";")
        stamp = request.one("X-Amz-Date") or ""
        self.check_names(request, names, refusal)
        self.check_time(stamp, day, refusal)
        if (region, scope_service) != (self.settings["region"], service):
            raise refusal("InvalidSignatureException",
                          f"the scope is {region}/{scope_service}")
        digest = request.one("X-Amz-Content-SHA256")
        if digest not in (None, hashlib.sha256(request.body).hexdigest()):
            raise refusal("InvalidSignatureException", "the digest is not that of the body")
        secret = self.secret_of(access_key, request.one("X-Amz-Security-Token"), refusal)
        expected = signature_of(request, names, stamp, secret, region, service)
        if not secrets.compare_digest(expected, signature):
            raise refusal("InvalidSignatureException",
                          "the signature is not that of the request: check key and signing method")

    @staticmethod
    def check_names(request, names, refusal):
        if names != sorted(set(names)):
            raise refusal("IncompleteSignatureException", "SignedHeaders is not sorted")
        sent = {name.lower() for name, _ in request.headers}
        must = {"host", "x-amz-date"} | {name for name in sent
                                         if name.startswith("x-amz-") or name == "content-type"}
        for name in sorted(must - set(names)):
            raise refusal("IncompleteSignatureException", f"{name} is not signed")
        for name in sorted(set(names) - sent):
            raise refusal("InvalidSignatureException", f"{name} is signed, but was not sent")

    def check_time(self, stamp, day, refusal):
        try:
            at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(
                tzinfo=datetime.timezone.utc).timestamp()
        except ValueError:
            raise refusal("IncompleteSignatureException", f"no X-Amz-Date: {stamp}") from None
        if stamp[:8] != day:
            raise refusal("InvalidSignatureException", "the scope is of another day")
        if abs(time.time() - at) > self.settings["skew"]:
            raise refusal("InvalidSignatureException", f"signature expired: {stamp}")

    # ---- endpoints ----

    def handle(self, request):
        if request.path == "/openai/v1/chat/completions" and request.method == "POST":
            self.counted("chat")
            self.check_signature(request, self.settings["service"])
            return chat_answer(request, "aws")
        if request.path.startswith("/signed/"):
            self.counted("signed")
            self.check_signature(request, self.settings["service"])
            return Answer(document={"method": request.method, "path": request.path,
                                    "query": request.query})
        if request.path == "/" and request.method == "POST":
            return self.sts(request)
        if request.path == "/latest/api/token":
            return self.imds_token(request)
        if request.path.startswith(IMDS):
            return self.imds(request, request.path.removeprefix(IMDS))
        if request.path == "/v2/credentials/aip" and request.method == "GET":
            return self.container(request)
        raise Refused(404, f"{request.method} {request.path}: nothing is there")

    def sts(self, request):
        if (request.one("Content-Type") or "").split(";")[0] != "application/x-www-form-urlencoded":
            raise xml_refusal("MalformedInput", "the body is no form", 400)
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        action = form.get("Action")
        self.counted("web_identity" if action == "AssumeRoleWithWebIdentity" else "sts")
        if form.get("Version") != "2011-06-15":
            raise xml_refusal("InvalidAction", f"no version of {action}", 400)
        if action == "AssumeRole":
            self.check_signature(request, "sts", xml_refusal)
            if form.get("ExternalId") != self.settings["external_id"]:
                raise xml_refusal("AccessDenied", "the external id is not that of the role")
        elif action != "AssumeRoleWithWebIdentity":
            raise xml_refusal("InvalidAction", f"no action {action}", 400)
        elif form.get("WebIdentityToken") != self.settings["web_identity_token"]:
            raise xml_refusal("InvalidIdentityToken", "the web identity token is not good", 400)
        return self.assume_role(action, form)

    def assume_role(self, action, form):
        session = form.get("RoleSessionName", "")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", session, re.ASCII):
            raise xml_refusal("ValidationError", "RoleSessionName is not good", 400)
        duration = form.get("DurationSeconds", "3600")
        if not duration.isascii() or not duration.isdigit() or not 900 <= int(duration) <= 43200:
            raise xml_refusal("ValidationError", "DurationSeconds is not good", 400)
        role = form.get("RoleArn")
        if role != self.settings["role"]:
            raise xml_refusal("AccessDenied", f"not allowed to assume {role}")
        access_key, secret, token, expires = self.issue(int(duration))
        user = role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/" + session
        return Answer(content_type="text/xml", text=f"""\
<{action}Response xmlns="{STS_NAMESPACE}">
  <{action}Result>
    <AssumedRoleUser>
      <AssumedRoleId>AROATESTTESTTEST:{escape(session)}</AssumedRoleId>
      <Arn>{escape(user)}</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>{access_key}</AccessKeyId>
      <SecretAccessKey>{secret}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{iso(expires)}</Expiration>
    </Credentials>
  </{action}Result>
  <ResponseMetadata>
    <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>
  </ResponseMetadata>
</{action}Response>
""")

    def imds_token(self, request):
        self.counted("imds_token")
        if request.method != "PUT":
            raise Refused(405, f"IMDS: {request.method}")
        if request.all("X-Forwarded-For"):
            raise Refused(403, "IMDS: X-Forwarded-For")
        seconds = request.one("X-aws-ec2-metadata-token-ttl-seconds") or ""
        if not seconds.isascii() or not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            raise Refused(400, "IMDS: no X-aws-ec2-metadata-token-ttl-seconds from 1 to 21600")
        token = secrets.token_urlsafe(40)
        with self.lock:
            self.imds_tokens[token] = time.time() + int(seconds)
        return Answer(text=token, content_type="text/plain",
                      headers={"X-aws-ec2-metadata-token-ttl-seconds": seconds})

    def imds(self, request, role):
        self.counted("imds_keys" if role else "imds_role")
        token = request.one("X-aws-ec2-metadata-token")
        with self.lock:
            until = self.imds_tokens.get(token, 0)
        if time.time() >= until:
            raise Refused(401, "IMDS: no token, or not a good one")
        if request.method != "GET" or role not in ("", self.settings["imds_role"]):
            raise Refused(404, f"IMDS: no role {role}")
        if not role:
            return Answer(text=self.settings["imds_role"], content_type="text/plain")
        return self.keys_as_json({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated":
                                  iso(time.time())})

    def container(self, request):
        self.counted("container")
        if request.one("Authorization") != self.settings["container_token"]:
            raise Refused(401, "container credentials: Authorization is not the token")
        return self.keys_as_json({"RoleArn": self.settings["role"]})

    def keys_as_json(self, more):
        access_key, secret, token, expires = self.issue()
        return Answer(document={**more, "AccessKeyId": access_key, "SecretAccessKey": secret,
                                "Token": token, "Expiration": iso(expires)})


def signature_of(request, names, stamp, secret, region, service):
    query = "?" + request.query if request.query else ""
    made = AWSRequest(method=request.method, data=request.body,
                      url=f"http://{request.one('Host')}{request.path}{query}")
    for name, value in request.headers:
        if name.lower() in names:
            made.headers[name] = value
    made.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials("unused", secret), service, region)
    return auth.signature(auth.string_to_sign(made, auth.canonical_request(made)), made)


def main():
    options = arguments().parse_args()
    run(listen(options), Aws(SETTINGS))


if __name__ == "__main__":
    main()
