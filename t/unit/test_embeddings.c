/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format of embeddings: what is sent byte for byte, what is read in either encoding, and
 * every answer that must be refused. */

#include <apr_strings.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aip/embeddings.h"
#include "aip/json.h"
#include "fixture.h"

Suite *embeddings_suite(void);

static aip_span_t span(const char *text)
{
    return (aip_span_t){text, strlen(text)};
}

START_TEST(providers)
{
    static const struct {
        const char *name, *url;
        bool known, local;
    } rows[] = {
        {"openai", "https://api.openai.com/v1/embeddings", true, false},
        {"mistral", "https://api.mistral.ai/v1/embeddings", true, false},
        {"azure", NULL, true, false},
        {"ollama", NULL, true, false},
        {"local", NULL, true, true},
        {"OpenAI", NULL, false, false},
        {"", NULL, false, false},
        {NULL, NULL, false, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const aip_embeddings_provider_t *provider = aip_embeddings_provider(rows[i].name);

        ck_assert_int_eq(provider != NULL, rows[i].known);
        if (provider) {
            ck_assert_str_eq(provider->name, rows[i].name);
            ck_assert_pstr_eq(provider->default_url, rows[i].url);
            ck_assert_int_eq(provider->local, rows[i].local);
        }
    }
}
END_TEST

START_TEST(dimensions_by_model)
{
    static const struct {
        const char *model;
        bool takes;
    } rows[] = {
        {"text-embedding-3-small", true},
        {"text-embedding-3-large", true},
        {"openai/text-embedding-3-small", true},
        {"gateway/openai/text-embedding-3-large", true},
        {"text-embedding-ada-002", false},
        {"openai/text-embedding-ada-002", false},
        {"mistral-embed", false},
        {"text-embedding-3", false},
        {"text-embedding-3-small/other", false},
        {"my-text-embedding-3-small", false},
        {"", false},
        {NULL, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_msg(aip_embeddings_takes_dimensions(rows[i].model) == rows[i].takes, "%s",
                      rows[i].model);
    }
}
END_TEST

START_TEST(requests)
{
    static const struct {
        const char *model;
        int dimensions;
        const char *texts[3];
        const char *expected;
    } rows[] = {
        {"m", 0, {"a"}, "{\"model\":\"m\",\"input\":[\"a\"],\"encoding_format\":\"base64\"}"},
        {"m",
         256,
         {"a", "b c", ""},
         "{\"model\":\"m\",\"input\":[\"a\",\"b "
         "c\",\"\"],\"encoding_format\":\"base64\",\"dimensions\":256}"},
        {"a\"b\\c",
         0,
         {"say \"hi\""},
         "{\"model\":\"a\\\"b\\\\c\",\"input\":[\"say "
         "\\\"hi\\\"\"],\"encoding_format\":\"base64\"}"},
        {NULL, 0, {"a"}, "{\"input\":[\"a\"],\"encoding_format\":\"base64\"}"},
        {"m",
         0,
         {"\xc3\xa9 \xff"},
         "{\"model\":\"m\",\"input\":[\"\xc3\xa9 \xef\xbf\xbd\"],\"encoding_format\":\"base64\"}"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        aip_span_t texts[3];
        aip_span_t body;
        int n = 0;

        for (; n < 3 && rows[i].texts[n]; n++) {
            texts[n] = span(rows[i].texts[n]);
        }
        body = aip_embeddings_request(rows[i].model, rows[i].dimensions, texts, n, pool);
        ck_assert_str_eq(body.data, rows[i].expected);
        ck_assert_uint_eq(body.len, strlen(rows[i].expected));
        ck_assert_int_eq(aip_json_validate(body, NULL), AIP_JSON_OK);
    }
}
END_TEST

/* [1, 2] is AACAPwAAAEA= and [3, 4] is AABAQAAAgEA= in base64 of little-endian float32. */
#define B12 "\"AACAPwAAAEA=\""
#define B34 "\"AABAQAAAgEA=\""
#define ITEM(index, embedding)                                                                     \
    "{\"object\":\"embedding\",\"index\":" index ",\"embedding\":" embedding "}"
#define LIST(items)                                                                                \
    "{\"object\":\"list\",\"data\":[" items                                                        \
    "],\"model\":\"m\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}"

START_TEST(good_answers)
{
    static const char *const rows[] = {
        LIST(ITEM("0", B12) "," ITEM("1", B34)),
        LIST(ITEM("1", B34) "," ITEM("0", B12)),
        LIST(ITEM("0", "[1,2]") "," ITEM("1", "[3.0, 4e0]")),
        LIST(ITEM("1", "[ 30e-1 ,\n4 ]") ",\r\n" ITEM("0", B12)),
        LIST(ITEM("0", "\"AACAPwAAAE\\u0041=\"") "," ITEM("1", B34)),
        "{\"data\":[{\"embedding\":" B34 ",\"index\":1},{\"embedding\":" B12 ",\"index\":0}]}",
        " {\"data\" : [ {\"embedding\":" B12 ",\"index\":0} , {\"embedding\":" B34
        ",\"index\":1} ] } \n",
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        float vectors[4] = {0};
        aip_error_t err = {0};

        ck_assert_msg(aip_embeddings_response(span(rows[i]), 2, 2, vectors, pool, &err) ==
                          APR_SUCCESS,
                      "%s: %s", rows[i], err.message);
        for (int k = 0; k < 4; k++) {
            ck_assert_msg(vectors[k] == (float)(k + 1), "%s: value %d is %g", rows[i], k,
                          (double)vectors[k]);
        }
    }
}
END_TEST

START_TEST(refused_answers)
{
    static const struct {
        const char *body, *message; /* a part of it */
    } rows[] = {
        {"", "not the expected JSON"},
        {"{", "not the expected JSON"},
        {"[]", "not the expected JSON"},
        {"<html>", "at byte 0"},
        {"{}", "no array \"data\""},
        {"{\"error\":{\"message\":\"no\"}}", "no array \"data\""},
        {"{\"data\":null}", "no array \"data\""},
        {"{\"data\":{}}", "no array \"data\""},
        {"{\"data\":[],\"data\":[]}", "not the expected JSON"},
        {LIST(""), "0 embeddings, expected 2"},
        {LIST(ITEM("0", B12)), "1 embeddings, expected 2"},
        {LIST(ITEM("0", B12) "," ITEM("1", B34) "," ITEM("2", B34)), "more than 2 embeddings"},
        {LIST(ITEM("0", B12) "," ITEM("0", B34)), "index 0 occurs twice"},
        {LIST(ITEM("0", B12) "," ITEM("2", B34)), "data[1]: \"index\""},
        {LIST(ITEM("-1", B12)), "\"index\""},
        {LIST(ITEM("0.5", B12)), "\"index\""},
        {LIST(ITEM("\"0\"", B12)), "\"index\""},
        {LIST(ITEM("4294967296", B12)), "\"index\""},
        {LIST(ITEM("null", B12)), "\"index\""},
        {LIST("{\"embedding\":" B12 "}"), "\"index\""},
        {LIST("{\"index\":0,\"index\":1,\"embedding\":" B12 "}"), "data[0]"},
        {LIST("{\"index\":0}"), "neither a string nor an array"},
        {LIST("{\"index\":0,\"embedding\":null}"), "neither a string nor an array"},
        {LIST("7"), "data[0]"},
        {LIST("null,null"), "data[0]"},
        {LIST(ITEM("0", "[1]")), "1 values, expected 2"},
        {LIST(ITEM("0", "[]")), "0 values, expected 2"},
        {LIST(ITEM("0", "[1,2,3]")), "more than 2 values"},
        {LIST(ITEM("0", "[1,\"2\"]")), "value 1 is no number"},
        {LIST(ITEM("0", "[1,null]")), "value 1 is no number"},
        {LIST(ITEM("0", "[[1,2]]")), "value 0 is no number"},
        {LIST(ITEM("0", "[NaN,1]")), "not the expected JSON"},
        {LIST(ITEM("0", "[1,1e39]")), "value 1 does not fit"},
        {LIST(ITEM("0", "[1,-1e400]")), "value 1 does not fit"},
        {LIST(ITEM("0", "[0,0.0]")), "zero vector"},
        {LIST(ITEM("0", "\"AAAAAAAAAIA=\"")), "zero vector"}, /* 0, -0 */
        {LIST(ITEM("0", "\"AACAPwAAgH8=\"")), "not finite"},  /* 1, inf */
        {LIST(ITEM("0", "\"AACAPwAAwH8=\"")), "not finite"},  /* 1, nan */
        {LIST(ITEM("0", "\"\"")), "0 bytes, expected 8"},
        {LIST(ITEM("0", "\"AACAPw==\"")), "4 bytes, expected 8"},
        {LIST(ITEM("0", "\"AACAPwAAAEAA\"")), "9 bytes, expected 8"},
        {LIST(ITEM("0",
                   "\"AACAPwAAAEAAAEBAAACAQAAAoEAAAMBAAADgQAAAAEEAABBBAAAgQQAAMEEAAEBBAABQQQ==\"")),
         "expected 8"},
        {LIST(ITEM("0", "\"AACAPwAAAEA\"")), "not base64"},  /* no padding */
        {LIST(ITEM("0", "\"AACAPwAAAE-=\"")), "not base64"}, /* the URL alphabet */
        {LIST(ITEM("0", "\"AACA=wAAAEA=\"")), "not base64"},
        {LIST(ITEM("0", "\"AACAPwAA====\"")), "not base64"},
        {LIST(ITEM("0", "\"AACAPw\\nAAEA=\"")), "not base64"},
        {LIST(ITEM("0", "\"AACAPwAA\xc3\xa9"
                        "A=\"")),
         "not base64"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        float vectors[4] = {0};
        aip_error_t err = {0};
        /* A copy that ends where the text ends, so that tools see a read beyond. */
        char *copy = malloc(strlen(rows[i].body) + !*rows[i].body);

        memcpy(copy, rows[i].body, strlen(rows[i].body));
        ck_assert_msg(aip_embeddings_response((aip_span_t){copy, strlen(rows[i].body)}, 2, 2,
                                              vectors, pool, &err) == APR_EGENERAL,
                      "accepted: %s", rows[i].body);
        ck_assert_msg(strstr(err.message, rows[i].message) != NULL, "%s: %s", rows[i].body,
                      err.message);
        ck_assert_int_eq(err.status, 502);
        free(copy);
    }
}
END_TEST

static const char *base64_of(const float *vector, int dims)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)vector;
    size_t len = (size_t)dims * 4;
    char *text = apr_pcalloc(pool, (len + 2) / 3 * 4 + 1), *out = text;

    for (size_t i = 0; i < len; i += 3) {
        unsigned bits = (unsigned)in[i] << 16 | (i + 1 < len ? (unsigned)in[i + 1] << 8 : 0) |
                        (i + 2 < len ? (unsigned)in[i + 2] : 0);

        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        *out++ = i + 2 < len ? digits[bits & 63] : '=';
    }
    return text;
}

/** Every length modulo 3, both encodings, all kinds of bits: what went in comes out. */
START_TEST(round_trip)
{
    static const int dims_of[] = {1, 2, 3, 4, 5, 255, 256, 384, 1536, 3072};
    const int dims = dims_of[_i / 2];
    const bool as_text = _i % 2;
    float *in = apr_palloc(pool, (size_t)dims * sizeof(float)),
          *out = apr_palloc(pool, (size_t)dims * sizeof(float));
    const char *embedding;
    aip_error_t err = {0};
    unsigned state = 12345;

    for (int i = 0; i < dims; i++) {
        do {
            state = state * 1664525u + 1013904223u;
            memcpy(&in[i], &state, sizeof(float));
        } while (!isfinite(in[i]));
    }
    in[0] = FLT_MAX;
    if (as_text) {
        char *text = apr_palloc(pool, (size_t)dims * 20 + 3), *at = text;

        for (int i = 0; i < dims; i++) {
            at += snprintf(at, 20, "%c%.9g", i ? ',' : '[', (double)in[i]);
        }
        memcpy(at, "]", 2);
        embedding = text;
    } else {
        embedding = apr_pstrcat(pool, "\"", base64_of(in, dims), "\"", NULL);
    }
    embedding = apr_pstrcat(pool, "{\"data\":[{\"index\":0,\"embedding\":", embedding, "}]}", NULL);
    ck_assert_msg(aip_embeddings_response(span(embedding), 1, dims, out, pool, &err) == APR_SUCCESS,
                  "%s", err.message);
    ck_assert_mem_eq(in, out, (size_t)dims * sizeof(float));
}
END_TEST

START_TEST(normalizing)
{
    static const struct {
        const char *name;
        float in[3], expected[3];
        bool scaled;
    } rows[] = {
        {"3 4", {3, 0, 4}, {0.6f, 0, 0.8f}, true},
        {"unit", {0, -1, 0}, {0, -1, 0}, true},
        {"huge", {FLT_MAX, 0, FLT_MAX}, {0.70710678f, 0, 0.70710678f}, true},
        {"denormal", {1e-42f, 0, 0}, {1, 0, 0}, true},
        {"zero", {0, -0.0f, 0}, {0, -0.0f, 0}, false},
        {"infinite", {1, INFINITY, 0}, {1, INFINITY, 0}, false},
        {"nan", {1, NAN, 0}, {1, NAN, 0}, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        float vector[3];

        memcpy(vector, rows[i].in, sizeof(vector));
        ck_assert_msg(aip_vector_normalize(vector, 3) == rows[i].scaled, "%s", rows[i].name);
        if (!rows[i].scaled) {
            ck_assert_mem_eq(vector, rows[i].in, sizeof(vector));
        }
        for (int k = 0; rows[i].scaled && k < 3; k++) {
            ck_assert_msg(fabsf(vector[k] - rows[i].expected[k]) < 1e-7f, "%s: %.9g", rows[i].name,
                          (double)vector[k]);
        }
    }
}
END_TEST

Suite *embeddings_suite(void)
{
    Suite *suite = suite_create("embeddings");
    TCase *tcase = tcase_create("wire");

    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, providers);
    tcase_add_test(tcase, dimensions_by_model);
    tcase_add_test(tcase, requests);
    tcase_add_test(tcase, good_answers);
    tcase_add_test(tcase, refused_answers);
    tcase_add_loop_test(tcase, round_trip, 0, 20);
    tcase_add_test(tcase, normalizing);
    suite_add_tcase(suite, tcase);
    return suite;
}
