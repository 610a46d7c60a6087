/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes forms as browsers send them. The lines are: Sec-Fetch-Site, Origin, Host (a line "-": not
 * there), a user, a name of a field, the time since a token was made; the rest is a form. A # in it
 * stands for a good token. What must hold: a field is what a reader of our own, with bytes instead
 * of APR, finds; a value that is escaped as APR does it is read as it was; a token is good for its
 * user, key and hour alone, and any other text is bad; a form comes from here when the browser
 * says so, when Origin names Host, or when there is neither. */

#include "fuzz.h"

#include "aip/form.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <apr_time.h>

#define NOW apr_time_from_sec(1700000000)

static const unsigned char key[AIP_FORM_KEY_BYTES] = "one", other[AIP_FORM_KEY_BYTES] = "other";

static const char *line_of(const uint8_t **data, size_t *size)
{
    char *line = fuzz_line(data, size), *kept = apr_pstrdup(fuzz_pool(), line);

    free(line);
    return strcmp(kept, "-") == 0 ? NULL : kept;
}

/* ---- fields ---- */

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* @return NULL: it cannot be decoded */
static const char *decode(const char *text, size_t len)
{
    char *value = apr_palloc(fuzz_pool(), len + 1), *out = value;

    for (size_t i = 0; i < len; i++, out++) {
        *out = text[i] == '+' ? ' ' : text[i];
        if (text[i] != '%')
            continue;
        if (i + 2 >= len || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0)
            return NULL;
        *out = (char)(digit(text[i + 1]) * 16 + digit(text[i + 2]));
        if (!*out)
            return NULL;
        i += 2;
    }
    *out = '\0';
    return value;
}

static const char *find(const char *form, const char *name)
{
    const size_t len = strlen(name);
    const char *at = form;

    for (size_t n; *at; at += n + (at[n] == '&')) {
        n = strcspn(at, "&");
        if (n > len && memcmp(at, name, len) == 0 && at[len] == '=')
            return decode(at + len + 1, n - len - 1);
    }
    return NULL;
}

static void check_field(const char *form, const char *name)
{
    const char *value = aip_form_field(form, name, fuzz_pool()), *expected = find(form, name);

    require(!value == !expected && (!value || strcmp(value, expected) == 0));
    if (!value || !*name || strpbrk(name, "&="))
        return;
    const char *again = apr_pstrcat(fuzz_pool(), "=&", name, "x=&", name, "=",
                                    apr_pescape_urlencoded(fuzz_pool(), value), "&=", NULL);
    const char *same = aip_form_field(again, name, fuzz_pool());
    require(same && strcmp(same, value) == 0);
}

/* ---- tokens ---- */

static aip_form_token_e check(const unsigned char *with, const char *user, const char *token,
                              apr_time_t now)
{
    return aip_form_token_check(with, user, token, now, fuzz_pool());
}

/* The input chooses the byte. */
static const char *damaged(const char *token, size_t at)
{
    char *copy = apr_pstrdup(fuzz_pool(), token);

    copy[at % strlen(copy)] ^= 1;
    return copy;
}

static void check_token(const char *user, const char *given, const char *made, long age)
{
    const apr_time_t later = NOW + apr_time_from_sec(age);
    const aip_form_token_e then = check(key, user, made, later);

    require(then == (age < -60 || age > 3600 ? AIP_FORM_TOKEN_OLD : AIP_FORM_TOKEN_GOOD));
    require(check(other, user, made, NOW) == AIP_FORM_TOKEN_BAD);
    require(check(key, user ? NULL : "", made, NOW) == AIP_FORM_TOKEN_BAD);
    require(check(key, apr_pstrcat(fuzz_pool(), user ? user : "", "x", NULL), made, NOW) ==
            AIP_FORM_TOKEN_BAD);
    require(check(key, user, damaged(made, (size_t)age), NOW) == AIP_FORM_TOKEN_BAD);
    require(check(key, user, damaged(made, strlen(made) - 1), NOW) == AIP_FORM_TOKEN_BAD);
    require((check(key, user, given, later) == AIP_FORM_TOKEN_BAD) ==
            !(given && strcmp(given, made) == 0));
}

/* ---- where it comes from ---- */

static bool own(const char *site, const char *origin, const char *host)
{
    if (site || !origin)
        return !site || strcmp(site, "same-origin") == 0;
    for (const char *p = origin; host && *p; p++)
        if (p[0] == ':' && p[1] == '/' && p[2] == '/')
            return strlen(p + 3) == strlen(host) && strncasecmp(p + 3, host, strlen(host)) == 0;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"token", "action", "server", "gateway", "target", "prompt"};
    const char *site = line_of(&data, &size), *origin = line_of(&data, &size);
    const char *host = line_of(&data, &size), *user = line_of(&data, &size);
    const char *name = line_of(&data, &size), *age = line_of(&data, &size);
    const char *token = aip_form_token_make(key, user, NOW, fuzz_pool());
    char *text = fuzz_string(data, size), *hash = strchr(text, '#');
    const char *form = text;

    require(aip_form_foreign(site, origin, host) == !own(site, origin, host));
    require(token != NULL);
    if (hash) {
        *hash = '\0';
        form = apr_pstrcat(fuzz_pool(), text, token, hash + 1, NULL);
    }
    char *copy = fuzz_copy(form, strlen(form) + 1); /* ends where the form does */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_field(copy, names[i]);
    if (name)
        check_field(copy, name);
    check_token(user, aip_form_field(copy, "token", fuzz_pool()), token,
                age ? strtol(age, NULL, 10) % 100000 : 0);
    free(copy);
    free(text);
    apr_pool_clear(fuzz_pool());
    return 0;
}
