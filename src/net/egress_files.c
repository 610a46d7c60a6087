/* SPDX-License-Identifier: Apache-2.0 */
/* The PEM files of egress, looked at while the configuration is checked: as root, so that a key may
 * be readable by root only. What was read is handed to libcurl as it is; mod_ssl reads the files
 * itself. */
#include "aip/egress.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define FILE_MAX ((apr_size_t)16 << 20)

static const char *read_file(const char *directive, const char *path, aip_span_t *text,
                             apr_pool_t *pool)
{
    apr_file_t *file;
    apr_finfo_t info;
    char reason[120];
    apr_size_t got = 0;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_file_info_get(&info, APR_FINFO_SIZE | APR_FINFO_TYPE, file);
        if (rv == APR_SUCCESS && (info.filetype != APR_REG || info.size > (apr_off_t)FILE_MAX)) {
            apr_file_close(file);
            return apr_psprintf(pool, "%s %s is no PEM file", directive, path);
        }
        char *data = rv == APR_SUCCESS ? apr_palloc(pool, (apr_size_t)info.size + 1) : NULL;
        rv = data ? apr_file_read_full(file, data, (apr_size_t)info.size, &got) : rv;
        if (data) {
            data[got] = '\0';
            *text = (aip_span_t){data, got};
        }
        apr_file_close(file);
    }
    return rv == APR_SUCCESS || APR_STATUS_IS_EOF(rv)
               ? NULL
               : apr_psprintf(pool, "%s %s cannot be read: %s", directive, path,
                              apr_strerror(rv, reason, sizeof reason));
}

static BIO *open_text(aip_span_t text)
{
    return BIO_new_mem_buf(text.data, (int)text.len);
}

static X509 *first_certificate(aip_span_t pem)
{
    BIO *bio = open_text(pem);
    X509 *certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return certificate;
}

/* mod_ssl takes what follows the first pair as its chain, and a certificate before it for another
 * pair whose key is missing. */
static bool pair_is_first(aip_span_t pem)
{
    BIO *bio = open_text(pem);
    STACK_OF(X509_INFO) *all = bio ? PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL) : NULL;
    const X509_INFO *first = all && sk_X509_INFO_num(all) ? sk_X509_INFO_value(all, 0) : NULL;
    bool ok = first && first->x509 && first->x_pkey;
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    BIO_free(bio);
    ERR_clear_error();
    return ok;
}

/* Nobody is there to be asked for a pass phrase. */
static int no_pass_phrase(char *buffer, int size, int writing, void *asked)
{
    (void)buffer, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

static const char *check_client(const aip_egress_t *egress, apr_pool_t *pool)
{
    bool encrypted = false;
    const char *path = egress->client_cert;
    X509 *certificate = first_certificate(egress->client_pem);
    BIO *bio = open_text(egress->client_pem);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, &encrypted) : NULL;
    const char *error = NULL;
    if (!certificate) {
        error = apr_psprintf(pool, "AIEgressClientCert %s holds no PEM certificate", path);
    } else if (encrypted) {
        error = apr_psprintf(pool,
                             "AIEgressClientCert %s: the key has a pass phrase; write it without "
                             "one, readable by root only",
                             path);
    } else if (!key) {
        error = apr_psprintf(
            pool, "AIEgressClientCert %s holds no PEM private key; put it behind the certificate",
            path);
    } else if (!pair_is_first(egress->client_pem)) {
        error = apr_psprintf(pool,
                             "AIEgressClientCert %s: put the key right behind its certificate, and "
                             "the chain behind the key",
                             path);
    } else if (X509_check_private_key(certificate, key) != 1) {
        error = apr_psprintf(
            pool, "AIEgressClientCert %s: the key does not belong to the certificate", path);
    }
    BIO_free(bio);
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return error;
}

const char *aip_egress_load(aip_egress_t *egress, apr_pool_t *pool)
{
    const char *error = NULL;
    if (egress->ca_file) {
        error = read_file("AIEgressCaFile", egress->ca_file, &egress->ca_pem, pool);
        X509 *certificate = error ? NULL : first_certificate(egress->ca_pem);
        if (!error && !certificate) {
            error =
                apr_psprintf(pool, "AIEgressCaFile %s holds no PEM certificate", egress->ca_file);
        }
        X509_free(certificate);
    }
    if (!error && egress->client_cert) {
        error = read_file("AIEgressClientCert", egress->client_cert, &egress->client_pem, pool);
        error = error ? error : check_client(egress, pool);
    }
    return error;
}
