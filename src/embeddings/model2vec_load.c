/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a model directory of the local embedder. Happens once per model, while the configuration is
 * read; nothing in the files is believed before it was compared with the others. The table stays a
 * read-only mapping of model.safetensors, shared by all children. Format:
 * https://github.com/huggingface/safetensors (8 bytes header length, JSON, data; little-endian). */

#include "model2vec_private.h"

#include <apr_escape.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_MAX = 1024 * 1024, /* of model.safetensors; one tensor needs 100 bytes */
    DEFAULT_MAX_LENGTH = 512  /* what the format says when config.json is silent */
};

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define TABLE_BYTES_MAX (sizeof(size_t) > 4 ? (size_t)16 << 30 : (size_t)1 << 30)

static const char config_name[] = "config.json";
static const char tokenizer_name[] = "tokenizer.json";
static const char table_name[] = "model.safetensors";

static const struct {
    const char *name;        /* in model.safetensors */
    const char *config_name; /* in config.json */
    size_t size;
} dtypes[] = {
    [AIP_M2V_I8] = {"I8", "int8", 1},
    [AIP_M2V_F16] = {"F16", "float16", 2},
    [AIP_M2V_F32] = {"F32", "float32", 4},
};

enum { DTYPES = sizeof(dtypes) / sizeof(dtypes[0]) };

apr_status_t aip_m2v_refuse(aip_m2v_load_t *l, const char *file, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    l->error =
        apr_psprintf(l->pool, "%s/%s: %s", l->dir, file, apr_pvsprintf(l->scratch, format, args));
    va_end(args);
    return APR_EGENERAL;
}

bool aip_m2v_has_string(const json_t *object, const char *key, const char *expected)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value && strcmp(value, expected) == 0;
}

/* ---- files ---- */

static apr_status_t refuse_errno(aip_m2v_load_t *l, const char *file, const char *what)
{
    apr_status_t rv = errno;
    char reason[128];

    aip_m2v_refuse(l, file, "%s: %s", what, apr_strerror(rv, reason, sizeof(reason)));
    return rv;
}

/** Opens a regular, non-empty file; O_NONBLOCK keeps a FIFO of that name from blocking the server's
 * start. */
static apr_status_t open_regular(aip_m2v_load_t *l, const char *file, size_t max, int *fd,
                                 size_t *size)
{
    const char *path = apr_pstrcat(l->scratch, l->dir, "/", file, NULL);
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) {
        return refuse_errno(l, file, "cannot open");
    }
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0
        || (apr_uint64_t)st.st_size > max) {
        const char *what = !S_ISREG(st.st_mode) ? "not a regular file"
                           : st.st_size <= 0    ? "empty file"
                                                : "file is too large to be a model's";

        close(*fd);
        return aip_m2v_refuse(l, file, "%s", what);
    }
    *size = (size_t)st.st_size;
    return APR_SUCCESS;
}

static apr_status_t read_bytes(aip_m2v_load_t *l, const char *file, size_t max, aip_span_t *bytes)
{
    size_t size, got = 0;
    ssize_t n = 1;
    char *data;
    int fd;
    apr_status_t rv = open_regular(l, file, max, &fd, &size);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    data = apr_palloc(l->scratch, size);
    while (got < size && n > 0) {
        n = read(fd, data + got, size - got);
        if (n < 0 && errno == EINTR) {
            n = 1;
        } else if (n > 0) {
            got += (size_t)n;
        }
    }
    rv = n < 0 ? refuse_errno(l, file, "cannot read") : APR_SUCCESS;
    close(fd);
    *bytes = (aip_span_t){data, got};
    return rv;
}

static apr_status_t unmap(void *data)
{
    aip_model2vec_t *model = data;

    munmap(model->map, model->map_len);
    return APR_SUCCESS;
}

static apr_status_t map_table(aip_m2v_load_t *l)
{
    aip_model2vec_t *model = l->model;
    int fd;
    apr_status_t rv = open_regular(l, table_name, TABLE_BYTES_MAX, &fd, &model->map_len);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    model->map = mmap(NULL, model->map_len, PROT_READ, MAP_SHARED, fd, 0);
    if (model->map == MAP_FAILED) {
        model->map = NULL;
        rv = refuse_errno(l, table_name, "cannot map");
    } else {
        apr_pool_cleanup_register(l->pool, model, unmap, apr_pool_cleanup_null);
    }
    close(fd);
    return rv;
}

/** Names and lengths are part of the digest: bytes cannot move from one file to the next unnoticed.
 */
static apr_status_t digest_file(aip_m2v_load_t *l, const char *file, const void *data, size_t len)
{
    const char *head = apr_psprintf(l->scratch, "%s %" APR_SIZE_T_FMT "\n", file, len);

    if (EVP_DigestUpdate(l->digest, head, strlen(head)) != 1
        || EVP_DigestUpdate(l->digest, data, len) != 1) {
        return aip_m2v_refuse(l, file, "cannot be digested");
    }
    return APR_SUCCESS;
}

static apr_status_t parse_object(aip_m2v_load_t *l, const char *file, aip_span_t bytes,
                                 json_t **root)
{
    json_error_t at;

    *root = json_loadb(bytes.data, bytes.len, JSON_REJECT_DUPLICATES, &at);
    if (!*root) {
        return aip_m2v_refuse(l, file, "not valid JSON (line %d): %s", at.line, at.text);
    }
    if (!json_is_object(*root)) {
        return aip_m2v_refuse(l, file, "not a JSON object");
    }
    return APR_SUCCESS;
}

/* ---- config.json ---- */

static apr_status_t read_max_length(aip_m2v_load_t *l, const json_t *root)
{
    const json_t *value = json_object_get(root, "max_length");

    if (!value) {
        l->max_length = DEFAULT_MAX_LENGTH;
    } else if (json_is_integer(value) && json_integer_value(value) >= 1
               && json_integer_value(value) <= INT32_MAX) {
        l->max_length = (size_t)json_integer_value(value);
    } else if (!json_is_null(value)) {
        return aip_m2v_refuse(l, config_name,
                              "\"max_length\" is neither null nor a number of tokens");
    }
    return APR_SUCCESS;
}

static apr_status_t check_config(aip_m2v_load_t *l, const json_t *root)
{
    const json_t *dims = json_object_get(root, "hidden_dim");
    const json_t *dtype = json_object_get(root, "embedding_dtype");
    const json_t *clusters = json_object_get(root, "vocabulary_quantization");

    if (!aip_m2v_has_string(root, "model_type", "model2vec")) {
        return aip_m2v_refuse(l, config_name, "\"model_type\" is not \"model2vec\"");
    }
    if (!json_is_true(json_object_get(root, "normalize"))) {
        return aip_m2v_refuse(l, config_name,
                              "\"normalize\" is not true; only unit vectors can be compared");
    }
    if (json_object_get(root, "pooling") && !aip_m2v_has_string(root, "pooling", "mean")) {
        return aip_m2v_refuse(l, config_name, "\"pooling\" is not \"mean\"");
    }
    if (clusters && !json_is_null(clusters)) {
        return aip_m2v_refuse(l, config_name,
                              "a model with \"vocabulary_quantization\" cannot be used");
    }
    if (dims && (!json_is_integer(dims) || json_integer_value(dims) < 1)) {
        return aip_m2v_refuse(l, config_name, "\"hidden_dim\" is not a number of dimensions");
    }
    if (dtype && !json_is_string(dtype)) {
        return aip_m2v_refuse(l, config_name, "\"embedding_dtype\" is not a string");
    }
    l->config_dims = (apr_uint64_t)json_integer_value(dims);
    l->config_dtype = dtype ? apr_pstrdup(l->scratch, json_string_value(dtype)) : NULL;
    return read_max_length(l, root);
}

static apr_status_t read_json(aip_m2v_load_t *l, const char *file, size_t max,
                              apr_status_t (*check)(aip_m2v_load_t *l, const json_t *root))
{
    json_t *root = NULL;
    aip_span_t bytes;
    apr_status_t rv = read_bytes(l, file, max, &bytes);

    if (rv == APR_SUCCESS) {
        rv = digest_file(l, file, bytes.data, bytes.len);
    }
    if (rv == APR_SUCCESS) {
        rv = parse_object(l, file, bytes, &root);
    }
    if (rv == APR_SUCCESS) {
        rv = check(l, root);
    }
    json_decref(root);
    return rv;
}

/* ---- model.safetensors ---- */

static apr_uint64_t load_le64(const unsigned char *p)
{
    apr_uint64_t v = 0;
    int i;

    for (i = 7; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

/** The member that is an array of two whole numbers >= 0. */
static bool read_pair(const json_t *tensor, const char *key, apr_uint64_t pair[2])
{
    const json_t *list = json_object_get(tensor, key);
    size_t i;

    if (!json_is_array(list) || json_array_size(list) != 2) {
        return false;
    }
    for (i = 0; i < 2; i++) {
        const json_t *item = json_array_get(list, i);

        if (!json_is_integer(item) || json_integer_value(item) < 0) {
            return false;
        }
        pair[i] = (apr_uint64_t)json_integer_value(item);
    }
    return true;
}

static apr_status_t check_dtype(aip_m2v_load_t *l, const json_t *tensor)
{
    const char *name = json_string_value(json_object_get(tensor, "dtype"));
    size_t i;

    for (i = 0; i < DTYPES && (!name || strcmp(name, dtypes[i].name) != 0); i++) {
    }
    if (i == DTYPES) {
        return aip_m2v_refuse(l, table_name, "the dtype of \"embeddings\" is not I8, F16 or F32");
    }
    if (l->config_dtype && strcmp(l->config_dtype, dtypes[i].config_name) != 0) {
        return aip_m2v_refuse(l, table_name, "\"embeddings\" is %s, but config.json says \"%s\"",
                              dtypes[i].name, l->config_dtype);
    }
    l->model->dtype = (aip_m2v_dtype_t)i;
    return APR_SUCCESS;
}

static apr_status_t check_shape(aip_m2v_load_t *l, const json_t *tensor)
{
    apr_uint64_t shape[2];

    if (!read_pair(tensor, "shape", shape)) {
        return aip_m2v_refuse(l, table_name,
                              "the shape of \"embeddings\" is not [rows, dimensions]");
    }
    if (shape[0] != l->vocabulary) {
        return aip_m2v_refuse(l, table_name,
                              "\"embeddings\" has %" APR_UINT64_T_FMT
                              " rows, but tokenizer.json has %" APR_SIZE_T_FMT " tokens",
                              shape[0], l->vocabulary);
    }
    if (shape[1] < 1 || shape[1] > AIP_M2V_DIMS_MAX) {
        return aip_m2v_refuse(l, table_name,
                              "\"embeddings\" has %" APR_UINT64_T_FMT " dimensions, not 1 to %d",
                              shape[1], (int)AIP_M2V_DIMS_MAX);
    }
    if (l->config_dims && l->config_dims != shape[1]) {
        return aip_m2v_refuse(l, table_name,
                              "\"embeddings\" has %" APR_UINT64_T_FMT
                              " dimensions, but config.json says %" APR_UINT64_T_FMT,
                              shape[1], l->config_dims);
    }
    l->model->dims = (size_t)shape[1];
    l->model->row_bytes = l->model->dims * dtypes[l->model->dtype].size;
    return APR_SUCCESS;
}

/** @param data_len  bytes behind the header, all of which the one tensor must fill */
static apr_status_t check_tensor(aip_m2v_load_t *l, const json_t *root, size_t data_len)
{
    json_t *tensor = json_object_get(root, "embeddings");
    apr_uint64_t offsets[2], expected;
    apr_status_t rv;

    if (!json_is_object(tensor)) {
        return aip_m2v_refuse(l, table_name, "no tensor \"embeddings\"");
    }
    if (json_object_size(root) != 1u + (json_object_get(root, "__metadata__") != NULL)) {
        return aip_m2v_refuse(l, table_name, "a tensor besides \"embeddings\" cannot be used");
    }
    rv = check_dtype(l, tensor);
    if (rv == APR_SUCCESS) {
        rv = check_shape(l, tensor);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    expected = (apr_uint64_t)l->vocabulary * l->model->row_bytes; /* < 2^22 x 2^13 */
    if (!read_pair(tensor, "data_offsets", offsets) || offsets[0] != 0 || offsets[1] != expected) {
        return aip_m2v_refuse(l, table_name,
                              "the data_offsets of \"embeddings\" are not [0, %" APR_UINT64_T_FMT
                              "], as its shape and dtype demand",
                              expected);
    }
    if (data_len != expected) {
        return aip_m2v_refuse(l, table_name,
                              "the file has %" APR_SIZE_T_FMT
                              " bytes of data, not %" APR_UINT64_T_FMT ": it is %s",
                              data_len, expected, data_len < expected ? "truncated" : "too long");
    }
    return APR_SUCCESS;
}

static apr_status_t check_finite(aip_m2v_load_t *l)
{
    const aip_model2vec_t *model = l->model;
    size_t count = l->vocabulary * model->dims, i;

    for (i = 0; i < count; i++) {
        bool finite = true;

        if (model->dtype == AIP_M2V_F16) {
            finite = (aip_m2v_le16(model->rows + 2 * i) & 0x7C00) != 0x7C00;
        } else if (model->dtype == AIP_M2V_F32) {
            finite = (aip_m2v_le32(model->rows + 4 * i) & 0x7F800000) != 0x7F800000;
        }
        if (!finite) {
            return aip_m2v_refuse(l, table_name,
                                  "row %" APR_SIZE_T_FMT " has a value that is not finite",
                                  i / model->dims);
        }
    }
    return APR_SUCCESS;
}

static apr_status_t read_table(aip_m2v_load_t *l)
{
    aip_model2vec_t *model = l->model;
    const unsigned char *bytes;
    apr_uint64_t header;
    json_t *root = NULL;
    apr_status_t rv = map_table(l);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    bytes = model->map;
    header = model->map_len >= 8 ? load_le64(bytes) : 0;
    if (model->map_len < 8 || header > model->map_len - 8) {
        return aip_m2v_refuse(l, table_name, "the header reaches beyond the end of the file");
    }
    if (header > HEADER_MAX) {
        return aip_m2v_refuse(l, table_name, "the header is longer than %d bytes", (int)HEADER_MAX);
    }
    rv = parse_object(l, table_name, (aip_span_t){(const char *)bytes + 8, (size_t)header}, &root);
    if (rv == APR_SUCCESS) {
        rv = check_tensor(l, root, model->map_len - 8 - (size_t)header);
    }
    json_decref(root);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    model->rows = bytes + 8 + header;
    rv = check_finite(l);
    return rv == APR_SUCCESS ? digest_file(l, table_name, bytes, model->map_len) : rv;
}

/* ---- load ---- */

static apr_status_t finish_digest(aip_m2v_load_t *l)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_DigestFinal_ex(l->digest, raw, &len) != 1
        || apr_escape_hex(l->model->digest, raw, len, 0, NULL) != APR_SUCCESS) {
        return aip_m2v_refuse(l, table_name, "cannot be digested");
    }
    return APR_SUCCESS;
}

static apr_status_t load_files(aip_m2v_load_t *l)
{
    apr_status_t rv;

    if (!l->digest || EVP_DigestInit_ex(l->digest, EVP_sha256(), NULL) != 1) {
        return aip_m2v_refuse(l, table_name, "cannot be digested: no SHA-256");
    }
    rv = read_json(l, config_name, CONFIG_BYTES_MAX, check_config);
    if (rv == APR_SUCCESS) {
        rv = read_json(l, tokenizer_name, TOKENIZER_BYTES_MAX, aip_m2v_read_tokenizer);
    }
    if (rv == APR_SUCCESS) {
        rv = read_table(l);
    }
    return rv == APR_SUCCESS ? finish_digest(l) : rv;
}

apr_status_t aip_model2vec_load(aip_model2vec_t **model, const char *dir, apr_pool_t *pool,
                                const char **error)
{
    aip_m2v_load_t l = {.pool = pool, .dir = dir};
    apr_status_t rv;

    *model = NULL;
    *error = NULL;
    rv = apr_pool_create(&l.scratch, pool);
    if (rv != APR_SUCCESS) {
        *error = apr_psprintf(pool, "%s: out of memory", dir);
        return rv;
    }
    l.model = apr_pcalloc(pool, sizeof(*l.model));
    l.digest = EVP_MD_CTX_new();
    rv = load_files(&l);
    EVP_MD_CTX_free(l.digest);
    apr_pool_destroy(l.scratch);
    if (rv == APR_SUCCESS) {
        *model = l.model;
    } else if (l.model->map) {
        apr_pool_cleanup_run(pool, l.model, unmap);
    }
    *error = l.error;
    return rv;
}
