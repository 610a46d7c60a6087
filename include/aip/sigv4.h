/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SIGV4_H
#define AIP_SIGV4_H
/* AWS Signature Version 4 in header fields: pure functions, no state, no clock; any thread.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html */

#include "aip/aip.h"

typedef struct aip_aws_keys_t {
    const char *access_key; /**< visible ASCII, without '/', ',' and '"' */
    const char *secret_key; /**< visible ASCII, at most AIP_SIGV4_SECRET_MAX bytes */
    const char *token;      /**< of temporary keys, visible ASCII; NULL or "": none */
} aip_aws_keys_t;

#define AIP_SIGV4_SECRET_MAX 256

/* How single services differ. The service "s3" has AIP_SIGV4_S3 without being told. */
#define AIP_SIGV4_ENCODE_ONCE 1u    /**< the path is signed encoded once, not twice */
#define AIP_SIGV4_KEEP_PATH 2u      /**< "//", "/./" and "/../" are signed as they are */
#define AIP_SIGV4_CONTENT_SHA256 4u /**< X-Amz-Content-Sha256 is sent and signed */
#define AIP_SIGV4_TOKEN_UNSIGNED 8u /**< the token is sent, but not signed */
#define AIP_SIGV4_S3 (AIP_SIGV4_ENCODE_ONCE | AIP_SIGV4_KEEP_PATH | AIP_SIGV4_CONTENT_SHA256)

/** A request as it will be sent: what is changed afterwards breaks the signature. */
typedef struct aip_sigv4_request_t {
    const char *method; /**< as sent; signed in this case of letters */
    const char *host;   /**< value of Host, with the port if it has one */
    /** As sent: begins with '/', percent-encoded, no query. "/model/a%3A0/invoke" is signed as
     * "/model/a%253A0/invoke", whatever the path's spelling the service sees. */
    const char *path;
    /** As sent, without '?'; percent-encoded; NULL or "": none. A '+' is refused, because signers
     * do not agree whether it is a space: write %20 or %2B. */
    const char *query;
    const char *region;  /**< "us-east-1" */
    const char *service; /**< name in the credential scope: "bedrock", "sts" */
    aip_span_t body;     /**< the whole of it; {NULL, 0} is the empty body */
    apr_time_t now;
    /** Further fields to be signed, {name, value} each, in the order in which they are sent; a name
     * may occur more than once. Not Host, Authorization and the four that signing adds. */
    const char *const (*headers)[2];
    size_t n_headers;
    unsigned flags; /**< AIP_SIGV4_* */
} aip_sigv4_request_t;

/** The stages of a signature, for tests and explanations: no secret is in them, but the token. */
typedef struct aip_sigv4_stages_t {
    const char *canonical_request;
    const char *string_to_sign;
    const char *signed_headers; /**< "host;x-amz-date" */
    const char *amz_date;       /**< "20150830T123600Z" */
    const char *body_sha256;    /**< hexadecimal */
    const char *signature;      /**< hexadecimal */
} aip_sigv4_stages_t;

/**
 * Signs. Everything is allocated in `pool`; derived keys are wiped from memory.
 * A value that would break the request or its signature (CR, LF, NUL and other control bytes, white
 * space where none belongs, bad percent-encoding, empty parts) is refused, never repaired.
 * @param stages  out
 * @param error   out on failure: a sentence that names the part, never a value
 * @return APR_SUCCESS; APR_EINVAL: bad input; APR_EGENERAL: OpenSSL cannot compute
 */
apr_status_t aip_sigv4_stages(const aip_sigv4_request_t *request, const aip_aws_keys_t *keys,
                              apr_pool_t *pool, aip_sigv4_stages_t *stages, const char **error);

/**
 * The same, as the fields to be sent: "Authorization: ...\r\nX-Amz-Date: ...\r\n", then
 * X-Amz-Security-Token and X-Amz-Content-Sha256 where they apply.
 */
apr_status_t aip_sigv4_sign(const aip_sigv4_request_t *request, const aip_aws_keys_t *keys,
                            apr_pool_t *pool, const char **header_lines, const char **error);

#endif
