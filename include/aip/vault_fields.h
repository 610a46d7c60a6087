/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_VAULT_FIELDS_H
#define AIP_VAULT_FIELDS_H
/* The rows of <AIVault>, a part of the table in aip/fields.h, which says what the columns mean. */

// clang-format off
/* <AIVault>. Fields of Kong's vault entity; the path is that of its configuration. */
#define AIP_VAULT_FIELDS(X) \
X(ENUM, name, "AIVaultName", "vaults.name", NULL, 0, 0, "env|file|hcv", 0, \
  "Where the secrets are: environment variables, files, or HashiCorp Vault or OpenBao.") \
X(STR, prefix, "AIVaultPrefix", "vaults.config.prefix", NULL, 0, 0, NULL, 0, \
  "env: put before the name of each variable.") \
X(STR, directory, "AIVaultDirectory", "-", NULL, 0, 0, NULL, 0, \
  "file: the directory that an orchestrator mounts; one file for each secret, or JSON files with keys.") \
X(ENUM, protocol, "AIVaultProtocol", "vaults.config.protocol", "http", 0, 0, "http|https", 0, \
  "hcv: how the vault is reached.") \
X(STR, host, "AIVaultHost", "vaults.config.host", "127.0.0.1", 0, 0, NULL, 0, \
  "hcv: host name or address.") \
X(INT, port, "AIVaultPort", "vaults.config.port", "8200", 1, 65535, NULL, 0, \
  "hcv: port.") \
X(STR, mount, "AIVaultMount", "vaults.config.mount", "secret", 0, 0, NULL, 0, \
  "hcv: path of the KV secrets engine.") \
X(ENUM, kv, "AIVaultKv", "vaults.config.kv", "v1", 0, 0, "v1|v2", 0, \
  "hcv: version of the KV secrets engine.") \
X(STR, namespace, "AIVaultNamespace", "vaults.config.namespace", NULL, 0, 0, NULL, 0, \
  "hcv: namespace (Vault Enterprise, OpenBao).") \
X(ENUM, auth_method, "AIVaultAuthMethod", "vaults.config.auth_method", "token", 0, 0, "token|approle|kubernetes|cert", 0, \
  "hcv: how the gateway logs in; cert shows AIEgressClientCert.") \
X(STR, token, "AIVaultToken", "vaults.config.token", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "hcv, token: the token. Renewed while it can be.") \
X(STR, token_file, "AIVaultTokenFile", "-", NULL, 0, 0, NULL, 0, \
  "hcv, token: file with the token, read again at each login, as an agent renews it.") \
X(STR, approle_auth_path, "AIVaultApproleAuthPath", "vaults.config.approle_auth_path", "approle", 0, 0, NULL, 0, \
  "hcv, approle: path of the auth method.") \
X(STR, approle_role_id, "AIVaultApproleRoleId", "vaults.config.approle_role_id", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "hcv, approle: role ID.") \
X(STR, approle_secret_id, "AIVaultApproleSecretId", "vaults.config.approle_secret_id", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "hcv, approle: secret ID.") \
X(STR, approle_secret_id_file, "AIVaultApproleSecretIdFile", "vaults.config.approle_secret_id_file", NULL, 0, 0, NULL, 0, \
  "hcv, approle: file with the secret ID.") \
X(FLAG, approle_response_wrapping, "AIVaultApproleResponseWrapping", "vaults.config.approle_response_wrapping", "Off", 0, 0, NULL, 0, \
  "hcv, approle: the secret ID is a wrapping token, which is exchanged for it once.") \
X(STR, kube_auth_path, "AIVaultKubeAuthPath", "vaults.config.kube_auth_path", "kubernetes", 0, 0, NULL, 0, \
  "hcv, kubernetes: path of the auth method.") \
X(STR, kube_role, "AIVaultKubeRole", "vaults.config.kube_role", NULL, 0, 0, NULL, 0, \
  "hcv, kubernetes: role.") \
X(STR, kube_api_token_file, "AIVaultKubeApiTokenFile", "vaults.config.kube_api_token_file", "/run/secrets/kubernetes.io/serviceaccount/token", 0, 0, NULL, 0, \
  "hcv, kubernetes: file with the service account's token.") \
X(STR, cert_auth_role_name, "AIVaultCertAuthRoleName", "vaults.config.cert_auth_role_name", NULL, 0, 0, NULL, 0, \
  "hcv, cert: role; unset: whichever matches the certificate.") \
X(FLAG, base64_decode, "AIVaultBase64Decode", "vaults.config.base64_decode", "Off", 0, 0, NULL, 0, \
  "Secrets are decoded from base64.") \
X(INT, ttl, "AIVaultTtl", "vaults.config.ttl", "300", 0, AIP_YEAR, NULL, 0, \
  "Seconds after which a secret has been fetched again; 0: never.") \
X(INT, neg_ttl, "AIVaultNegTtl", "vaults.config.neg_ttl", "10", 1, AIP_YEAR, NULL, 0, \
  "Seconds until a secret that the vault does not have is asked for again.") \
X(INT, resurrect_ttl, "AIVaultResurrectTtl", "vaults.config.resurrect_ttl", "100000000", 0, AIP_MS_MAX, NULL, 0, \
  "Seconds beyond AIVaultTtl for which the last value is used while the vault gives none.") \
X(INT, timeout, "AIVaultTimeout", "-", "5000", 1, AIP_MS_MAX, NULL, 0, \
  "hcv: milliseconds for one request to the vault.")
// clang-format on

#endif
