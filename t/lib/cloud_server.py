#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Google's and Microsoft's token endpoints for tests, and a chat endpoint that knows their tokens.

    cloud_server.py --port PORT [--service-account FILE] [--federated-token FILE]
                    [--tls-port PORT --cert PEM --tls-key PEM]

FILE of a service account is written at the start: a key of its own, its token_uri is this server,
by TLS if it has that.
Control: see cloud_http.py. "POST /__cloud/key" replaces the key of the service account (and FILE):
assertions of the old one are no longer accepted.

    POST /token                                                      Google: JWT bearer grant
    GET  /computeMetadata/v1/instance/service-accounts/default/token Google: metadata server
    POST /TENANT/oauth2/v2.0/token                                   Microsoft: client credentials
    GET  /metadata/identity/oauth2/token                             Azure: managed identity
    GET  /msi/token                                                  Azure: App Service's
    POST .../chat/completions        below /v1/projects/ for Google's tokens, /openai/ for Azure's,
                                     any other path for both

Tokens live for "lifetime" seconds; a negative one issues what has expired. Kinds that are counted:
gcp_jwt, gcp_metadata, azure_client, azure_imds, azure_app_service, chat.
"""

import json
import os
import secrets
import time
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cloud_http import Answer, App, Refused, arguments, chat_answer, listen, run

GRANT_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_JWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SETTINGS = {
    "lifetime": 3600,
    "gcp_scope": "https://www.googleapis.com/auth/cloud-platform",
    "gcp_skew": 60,
    "azure_tenant": "11111111-2222-3333-4444-555555555555",
    "azure_client_id": "66666666-7777-8888-9999-000000000000",
    "azure_client_secret": "client~secret/with+signs=",
    "azure_federated_token": "federated-token",
    "azure_resources": ["https://cognitiveservices.azure.com", "https://ai.azure.com"],
    "azure_identity_header": "identity-header",
}


def oauth_refusal(error, description, status=400):
    return Refused(status, f"{error}: {description}",
                   Answer(status, {"error": error, "error_description": description}))


def form_of(request):
    """The form of a POST; a field that is sent twice is refused."""
    content_type = (request.one("Content-Type") or "").split(";")[0]
    if request.method != "POST" or content_type != "application/x-www-form-urlencoded":
        raise oauth_refusal("invalid_request", "no POST of a form")
    return single(request.body.decode())


def single(text):
    fields = parse_qs(text, keep_blank_values=True)
    for name, values in fields.items():
        if len(values) > 1:
            raise oauth_refusal("invalid_request", f"{name} occurs {len(values)} times")
    return {name: values[0] for name, values in fields.items()}


class ServiceAccount:
    """A key of Google's kind, and the file that holds it."""

    def __init__(self, file, token_uri):
        self.file = file
        self.token_uri = token_uri
        self.email = "gateway@test-project.iam.gserviceaccount.com"
        self.renew()

    def renew(self):
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = secrets.token_hex(20)
        self.public = private.public_key()
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption()).decode()
        if self.file:
            self.write({
                "type": "service_account", "project_id": "test-project",
                "private_key_id": self.key_id, "private_key": pem, "client_email": self.email,
                "client_id": "123456789012345678901", "token_uri": self.token_uri,
                "universe_domain": "googleapis.com"})

    def write(self, document):
        """Replaces the file in one step; nobody else may read it."""
        scratch = self.file + ".new"
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(document, out, indent=2)
            out.write("\n")
        os.replace(scratch, self.file)


class Cloud(App):
    def __init__(self, account):
        self.account = account
        super().__init__(SETTINGS)

    def revoke(self):
        with self.lock:
            self.tokens = {}  # token: (cloud, expires)

    def issue(self, cloud):
        """A new token, the seconds that it lives, and when it expires."""
        with self.lock:
            seconds = self.settings["lifetime"]
            # as long as real ones, with all their characters
            token = f"{cloud}.{secrets.token_urlsafe(900)}~+/=="
            expires = time.time() + seconds
            self.tokens[token] = (cloud, expires)
            return token, seconds, int(expires)

    def control(self, request):
        if (request.method, request.path) == ("POST", "/__cloud/key"):
            with self.lock:
                self.account.renew()
            return self.state()
        return super().control(request)

    def handle(self, request):
        path = request.path
        if path == "/token":
            return self.gcp_jwt(request)
        if path.startswith("/computeMetadata/v1/instance/service-accounts/"):
            return self.gcp_metadata(request)
        if path.endswith("/oauth2/v2.0/token"):
            return self.azure_client(request, path.split("/")[1])
        if path == "/metadata/identity/oauth2/token":
            return self.azure_imds(request)
        if path == "/msi/token":
            return self.azure_app_service(request)
        if path.endswith("/chat/completions") and request.method == "POST":
            return self.chat(request)
        raise Refused(404, f"{request.method} {path}: nothing is there")

    # ---- Google ----

    def gcp_jwt(self, request):
        self.counted("gcp_jwt")
        form = form_of(request)
        if form.get("grant_type") != GRANT_JWT:
            raise oauth_refusal("unsupported_grant_type", f"grant_type {form.get('grant_type')}")
        self.check_assertion(form.get("assertion", ""))
        token, seconds, _ = self.issue("gcp")
        return Answer(document={"access_token": token, "expires_in": seconds,
                                "token_type": "Bearer"})

    def check_assertion(self, assertion):
        account = self.account
        try:
            key_id = jwt.get_unverified_header(assertion).get("kid")
            claims = jwt.decode(assertion, account.public, algorithms=["RS256"],
                                audience=account.token_uri, issuer=account.email,
                                leeway=self.settings["gcp_skew"],
                                options={"require": ["exp", "iat", "aud", "iss"]})
        except jwt.InvalidTokenError as error:
            raise oauth_refusal("invalid_grant", f"{type(error).__name__}: {error}") from error
        if key_id != account.key_id:
            raise oauth_refusal("invalid_grant", f"Invalid JWT: unknown kid {key_id}")
        for name in ("exp", "iat"):
            if type(claims[name]) is not int:
                raise oauth_refusal("invalid_grant", f"Invalid JWT: {name} is no whole number")
        if not 0 < claims["exp"] - claims["iat"] <= 3600:
            raise oauth_refusal("invalid_grant",
                                "Invalid JWT: Token must be a short-lived token (60 minutes)")
        if not isinstance(claims["aud"], str):
            raise oauth_refusal("invalid_grant", "Invalid JWT: aud is no text")
        if self.settings["gcp_scope"] not in str(claims.get("scope", "")).split(" "):
            raise oauth_refusal("invalid_scope", f"Invalid OAuth scope: {claims.get('scope')}")

    def gcp_metadata(self, request):
        self.counted("gcp_metadata")
        account = request.path.split("/")[5]
        if request.method != "GET" or request.one("Metadata-Flavor") != "Google":
            raise Refused(403, "metadata server: no Metadata-Flavor: Google")
        if request.all("X-Forwarded-For"):
            raise Refused(403, "metadata server: X-Forwarded-For")
        if account not in ("default", self.account.email) or not request.path.endswith("/token"):
            raise Refused(404, f"metadata server: {request.path}")
        token, seconds, _ = self.issue("gcp")
        return Answer(document={"access_token": token, "expires_in": seconds,
                                "token_type": "Bearer"}, headers={"Metadata-Flavor": "Google"})

    # ---- Microsoft ----

    def azure_client(self, request, tenant):
        self.counted("azure_client")
        form = form_of(request)
        settings = self.settings
        if tenant != settings["azure_tenant"]:
            raise oauth_refusal("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials":
            raise oauth_refusal("unsupported_grant_type", "AADSTS70003: grant_type")
        if form.get("client_id") != settings["azure_client_id"]:
            raise oauth_refusal("unauthorized_client", "AADSTS700016: Application not found.")
        self.check_client(form)
        if form.get("scope") not in [name + "/.default" for name in settings["azure_resources"]]:
            raise oauth_refusal("invalid_scope", f"AADSTS70011: scope {form.get('scope')}")
        token, seconds, _ = self.issue("azure")
        return Answer(document={"token_type": "Bearer", "expires_in": seconds,
                                "ext_expires_in": seconds, "access_token": token})

    def check_client(self, form):
        """By its secret, or by the token of a federated identity."""
        if "client_assertion" in form:
            if "client_secret" in form or form.get("client_assertion_type") != ASSERTION_JWT:
                raise oauth_refusal("invalid_request", "AADSTS900144: client_assertion_type")
            if form["client_assertion"] != self.settings["azure_federated_token"]:
                raise oauth_refusal("invalid_client", "AADSTS50027: JWT token is invalid.", 401)
        elif form.get("client_secret") != self.settings["azure_client_secret"]:
            raise oauth_refusal("invalid_client", "AADSTS7000215: Invalid client secret.", 401)

    def managed_identity(self, request, version):
        """Fields of the query, checked; a client_id may be left out."""
        query = single(request.query)
        if request.method != "GET":
            raise Refused(405, f"managed identity: {request.method}")
        if query.get("api-version") != version:
            raise oauth_refusal("invalid_request", f"api-version {query.get('api-version')}")
        resource = query.get("resource", "")
        if resource.removesuffix("/") not in self.settings["azure_resources"]:
            raise oauth_refusal("invalid_resource", f"AADSTS500011: resource {resource}")
        if query.get("client_id", self.settings["azure_client_id"]) != \
                self.settings["azure_client_id"]:
            raise oauth_refusal("invalid_request", "Identity not found")
        token, seconds, expires = self.issue("azure")
        return seconds, {"access_token": token, "expires_on": str(expires), "resource": resource,
                         "token_type": "Bearer", "client_id": self.settings["azure_client_id"]}

    def azure_imds(self, request):
        self.counted("azure_imds")
        if (request.one("Metadata") or "").lower() != "true":
            raise oauth_refusal("invalid_request", "Required metadata header not specified")
        if request.all("X-Forwarded-For"):
            raise oauth_refusal("invalid_request", "X-Forwarded-For")
        seconds, answer = self.managed_identity(request, "2018-02-01")
        # numbers are text here
        return Answer(document={**answer, "expires_in": str(seconds),
                                "ext_expires_in": str(seconds),
                                "not_before": str(int(time.time()) - 300)})

    def azure_app_service(self, request):
        """Has no expires_in."""
        self.counted("azure_app_service")
        if request.one("X-IDENTITY-HEADER") != self.settings["azure_identity_header"]:
            raise Refused(401, "App Service: no X-IDENTITY-HEADER, or not the one", Answer(
                401, {"statusCode": 401, "message": "no X-IDENTITY-HEADER, or not the one"}))
        return Answer(document=self.managed_identity(request, "2019-08-01")[1])

    # ---- the model ----

    def chat(self, request):
        self.counted("chat")
        scheme, _, token = (request.one("Authorization") or "").partition(" ")
        with self.lock:
            cloud, expires = self.tokens.get(token, (None, 0))
        wanted = "gcp" if request.path.startswith("/v1/projects/") else \
            "azure" if request.path.startswith("/openai/") else cloud
        if scheme != "Bearer" or not token:
            reason = "no bearer token"
        elif not cloud:
            reason = "a token that was not issued, or was revoked"
        elif time.time() >= expires:
            reason = "a token that has expired"
        elif cloud != wanted:
            reason = f"a token of {cloud} for {wanted}"
        elif request.all("api-key"):
            reason = "an api-key beside the token"
        else:
            return chat_answer(request, cloud)
        raise Refused(401, reason, Answer(401, {"error": {
            "message": reason, "type": "invalid_request_error", "param": None, "code": "401"}},
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}))


def main():
    parser = arguments()
    parser.add_argument("--service-account")
    parser.add_argument("--federated-token")
    options = parser.parse_args()
    servers = listen(options)
    scheme = "https" if len(servers) > 1 else "http"
    account = ServiceAccount(options.service_account,
                             f"{scheme}://127.0.0.1:{servers[-1].server_port}/token")
    if options.federated_token:
        with open(options.federated_token, "w") as out:
            out.write(SETTINGS["azure_federated_token"])
    run(servers, Cloud(account))


if __name__ == "__main__":
    main()
