/* SPDX-License-Identifier: Apache-2.0 */
/* Listens to OpenSSL while mod_ssl makes a handshake with a peer of ours. mod_ssl_openssl.h, which
 * declares mod_ssl's hooks, comes with another package than httpd's own headers, so the one that is
 * used is declared here, as it has been since httpd 2.4.11. Runs in the request's thread. */
#include "tls_reason.h"

#include "aip/config.h"

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

typedef int ssl_HOOK_pre_handshake_t(conn_rec *c, SSL *ssl, int is_proxy);

#define CERTIFICATE_REQUIRED 116 /* RFC 8446, section 6; OpenSSL 1.1.1 has no words for it */

static const char *alert_words(int ret)
{
    return (ret & 0xff) == CERTIFICATE_REQUIRED ? "certificate required"
                                                : SSL_alert_desc_string_long(ret);
}

static void note_failure(const SSL *ssl, aip_tls_state_t *state)
{
    long verified = SSL_get_verify_result(ssl);
    unsigned long error = ERR_peek_last_error();
    const char *words = error ? ERR_reason_error_string(error) : NULL;
    if (verified != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE) {
        state->reason = X509_verify_cert_error_string(verified);
    } else if (words) {
        state->reason = words;
    }
}

/* mod_ssl compares the name by itself, and tells nobody; this is only asked when it has refused. */
static void note_name(const SSL *ssl, aip_tls_state_t *state)
{
    X509 *certificate = SSL_get_peer_certificate(ssl);
    state->shaken = true;
    if (!certificate) {
        return;
    }
    if (X509_check_ip_asc(certificate, state->host, 0) == 1) {
        state->reason = "mod_ssl does not compare addresses in certificates: use a host name, or "
                        "'SSLProxyCheckPeerName off' in this <AITarget>";
    } else if (X509_check_host(certificate, state->host, 0, 0, NULL) != 1) {
        state->reason = "the certificate is for another name";
    }
    X509_free(certificate);
}

static void listen_to(const SSL *ssl, int where, int ret)
{
    void (*next)(const SSL *, int, int) = SSL_CTX_get_info_callback(SSL_get_SSL_CTX(ssl));
    const conn_rec *c = SSL_get_app_data(ssl);
    aip_tls_state_t *state = c ? ap_get_module_config(c->conn_config, &ai_proxy_adv_module) : NULL;
    if (next) {
        next(ssl, where, ret);
    }
    if (!state) {
        return; /* a connection of mod_proxy's own */
    }
    if (where == SSL_CB_READ_ALERT && ret >> 8 == SSL3_AL_FATAL) {
        state->reason = apr_pstrcat(c->pool, "the peer sent the alert: ", alert_words(ret), NULL);
    } else if (where == SSL_CB_CONNECT_EXIT && ret <= 0) {
        note_failure(ssl, state);
    } else if (where & SSL_CB_LOOP && SSL_get_state(ssl) == TLS_ST_CR_CERT_REQ) {
        state->unshown = true;
    } else if (where & SSL_CB_HANDSHAKE_DONE && !state->shaken) {
        state->unshown = state->unshown && !SSL_get_certificate(ssl);
        note_name(ssl, state);
    }
}

static int pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    (void)c;
    if (is_proxy) {
        SSL_set_info_callback(ssl, listen_to);
    }
    return OK;
}

const char *aip_tls_reason(const aip_tls_state_t *state, bool refused)
{
    if (refused && state->shaken && !state->reason) {
        return "mod_ssl did not accept the certificate";
    }
    bool alert = state->reason && strncmp(state->reason, "the peer sent", 13) == 0;
    if (refused || alert) {
        return state->reason;
    }
    /* with TLS 1.3 such a peer closes after the handshake, and its alert may get lost */
    return state->unshown && !state->received
               ? "the peer asked for a certificate and got none (AIEgressClientCert)"
               : NULL;
}

void aip_tls_reason_register(void)
{
    APR_OPTIONAL_HOOK(ssl, pre_handshake, pre_handshake, NULL, NULL, APR_HOOK_MIDDLE);
}
