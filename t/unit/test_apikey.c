/* SPDX-License-Identifier: Apache-2.0 */
/* The files of AIApiKeyFile and AIAclsGroupFile: what they may hold, who is found in them, and that
 * they are followed while threads read. */

#include "aip/apikey.h"
#include "aip/groups.h"
#include "aip/watched.h"

#include <apr_file_io.h>
#include <apr_thread_proc.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"

Suite *apikey_suite(void);

#define HEX "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

static const char *line(const char *name, const char *groups, const char *key)
{
    apr_array_header_t *list = apr_array_make(pool, 2, sizeof(const char *));
    if (groups) {
        aip_groups_split(groups, list, pool);
    }
    return aip_apikey_line(name, list, key, pool);
}

static const char *salted(const char *name, const char *salt, const char *key)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *all = apr_pstrcat(pool, salt, key, NULL);
    const char *text = apr_pstrcat(pool, name, ":sha256$", salt, "$", NULL);
    SHA256((const unsigned char *)all, strlen(all), digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        text = apr_psprintf(pool, "%s%02x", text, digest[i]);
    }
    return text;
}

static const aip_apikeys_t *keys(const char *text)
{
    const char *error = NULL;
    const aip_apikeys_t *made = aip_apikeys_parse(text, strlen(text), pool, &error);
    ck_assert_msg(made != NULL, "%s", error);
    return made;
}

static const char *owner(const aip_apikeys_t *list, const char *key)
{
    const aip_apikey_t *found = aip_apikeys_find(list, key, strlen(key));
    return found ? apr_pstrcat(pool, found->name, " ", apr_array_pstrcat(pool, found->groups, '+'),
                               NULL)
                 : "nobody";
}

START_TEST(find)
{
    const aip_apikeys_t *list =
        keys(apr_pstrcat(pool, "# keys\n\n   \n", line("alice", NULL, "a-key-of-alice-0000001"),
                         "\r\n", line("bob", "staff,ops", "a-key-of-bob-000000001"), "  \n",
                         salted("carol:eng", "s.1", "a-key-of-carol-0000001"), "\n",
                         line("alice", "staff", "another-key-of-alice-1"), NULL));
    ck_assert_int_eq(aip_apikeys_count(list), 4);
    ck_assert_str_eq(owner(list, "a-key-of-alice-0000001"), "alice ");
    ck_assert_str_eq(owner(list, "another-key-of-alice-1"), "alice staff");
    ck_assert_str_eq(owner(list, "a-key-of-bob-000000001"), "bob staff+ops");
    ck_assert_str_eq(owner(list, "a-key-of-carol-0000001"), "carol eng");
    ck_assert_str_eq(owner(list, "s.1a-key-of-carol-0000001"), "nobody");
    ck_assert_str_eq(owner(list, "a-key-of-alice-0000002"), "nobody");
    ck_assert_str_eq(owner(list, "a-key-of-alice-000000"), "nobody");
    ck_assert_str_eq(owner(list, ""), "nobody");
    ck_assert_str_eq(owner(keys(""), "a-key-of-alice-0000001"), "nobody");
}
END_TEST

/* Too short and too long ones are none, though the file has their hash. */
START_TEST(lengths)
{
    char key[AIP_APIKEY_MAX + 2];
    memset(key, 'k', sizeof key);
    for (size_t len = 18; len < sizeof key; len++) {
        bool good = len >= AIP_APIKEY_MIN && len <= AIP_APIKEY_MAX;
        const char *text = apr_pstrmemdup(pool, key, len);
        ck_assert_str_eq(owner(keys(line("a", NULL, text)), text), good ? "a " : "nobody");
    }
}
END_TEST

static const struct {
    const char *text, *error;
} faults[] = {
    {"alice", "line 1: a line must be name:hash"},
    {"# x\n\nalice:secret-key-in-clear\n", "line 3: the hash must begin with sha256$"},
    {"alice:sha256$abc", "line 1: the hash must have 64 hexadecimal digits"},
    {"alice:sha256$" HEX "0", "64 hexadecimal digits"},
    {"alice:sha256$" HEX "\nbob:sha256$g" HEX, "line 2: the hash must have 64"},
    {"alice:sha512$" HEX, "must begin with sha256$"},
    {":sha256$" HEX, "a name or group is empty"},
    {"alice::sha256$" HEX, "a name or group is empty"},
    {"alice:a,,b:sha256$" HEX, "a name or group is empty"},
    {"alice:a,:sha256$" HEX, "a name or group is empty"},
    {"al ice:sha256$" HEX, "holds a blank"},
    {"al\x01:sha256$" HEX, "control character"},
    {"alice:a b:sha256$" HEX, "holds a blank"},
    {"alice:a:b:sha256$" HEX, "':'"},
    {"alice:sha256$$" HEX, "the salt must be"},
    {"alice:sha256$sa lt$" HEX, "the salt must be"},
    {"alice:sha256$a$b$" HEX, "64 hexadecimal digits"},
    {"alice:sha256$" HEX "\nbob:sha256$" HEX, "'alice' and 'bob' have the same key"},
    {"alice:sha256$s$" HEX "\nalice:sha256$s$" HEX, "'alice' and 'alice' have the same key"},
};

START_TEST(faulty)
{
    const char *error = NULL;
    ck_assert_msg(!aip_apikeys_parse(faults[_i].text, strlen(faults[_i].text), pool, &error),
                  "%s is taken", faults[_i].text);
    ck_assert_msg(strstr(error, faults[_i].error) != NULL, "%s: %s", faults[_i].text, error);
    ck_assert_msg(!strstr(error, "secret") && !strstr(error, "0123"), "%s", error);
}
END_TEST

START_TEST(odd)
{
    const char *error = NULL, *text = "";
    ck_assert_ptr_null(aip_apikeys_parse("a\0b", 3, pool, &error));
    ck_assert_ptr_nonnull(strstr(error, "NUL"));
    ck_assert_ptr_null(aip_groups_parse("a\0b", 3, pool, &error));
    for (int i = 0; i < 17; i++) {
        text = apr_psprintf(pool, "%sa:sha256$s%d$" HEX "\n", text, i);
        ck_assert_int_eq(aip_apikeys_parse(text, strlen(text), pool, &error) != NULL, i < 16);
    }
    ck_assert_ptr_nonnull(strstr(error, "line 17: more than 16 different salts"));
}
END_TEST

START_TEST(many)
{
    apr_array_header_t *parts = apr_array_make(pool, 10000, sizeof(const char *));
    for (int i = 0; i < 10000; i++) {
        const char *name = apr_psprintf(pool, "user-%d", i);
        APR_ARRAY_PUSH(parts, const char *) =
            line(name, "all", apr_psprintf(pool, "a-key-of-some-user-%d", i));
    }
    const aip_apikeys_t *list = keys(apr_array_pstrcat(pool, parts, '\n'));
    ck_assert_int_eq(aip_apikeys_count(list), 10000);
    for (int i = 0; i < 10000; i++) {
        ck_assert_str_eq(owner(list, apr_psprintf(pool, "a-key-of-some-user-%d", i)),
                         apr_psprintf(pool, "user-%d all", i));
    }
    ck_assert_str_eq(owner(list, "a-key-of-some-user-10000"), "nobody");
}
END_TEST

static const char *groups_of(const aip_groups_t *groups, const char *user)
{
    apr_array_header_t *list = apr_array_make(pool, 2, sizeof(const char *));
    aip_groups_of(groups, user, list, pool);
    return list->nelts ? apr_array_pstrcat(pool, list, '+') : "";
}

START_TEST(groups)
{
    const char *error = NULL;
    const char text[] = "# groups\n\nstaff: alice bob\n  ops :\tbob \"carol d\" \\\n   eve\r\n"
                        "my team: alice\nstaff: frank\nnobody:\n";
    const aip_groups_t *made = aip_groups_parse(text, strlen(text), pool, &error);
    ck_assert_msg(made != NULL, "%s", error);
    ck_assert_str_eq(groups_of(made, "alice"), "staff+my team");
    ck_assert_str_eq(groups_of(made, "bob"), "staff+ops");
    ck_assert_str_eq(groups_of(made, "carol d"), "ops");
    ck_assert_str_eq(groups_of(made, "eve"), "ops");
    ck_assert_str_eq(groups_of(made, "frank"), "staff");
    ck_assert_str_eq(groups_of(made, "mallory"), "");
    ck_assert_ptr_null(aip_groups_parse("a: b \\\nc\n\nd e\n", 14, pool, &error));
    ck_assert_str_eq(error, "line 4: a line must be group: user user ...");
    ck_assert_ptr_null(aip_groups_parse(" : b\n", 5, pool, &error));
    ck_assert_str_eq(error, "line 1: a group has no name");
}
END_TEST

START_TEST(split)
{
    static const char *const texts[][2] = {
        {"", ""}, {"a", "a"}, {"a,b", "a+b"}, {" a ,\tb,, c ", "a+b+c"}, {",", ""}};
    for (int i = 0; i < ROWS(texts); i++) {
        apr_array_header_t *list = apr_array_make(pool, 2, sizeof(const char *));
        aip_groups_split(texts[i][0], list, pool);
        ck_assert_str_eq(list->nelts ? apr_array_pstrcat(pool, list, '+') : "", texts[i][1]);
    }
}
END_TEST

/* ---- files that are followed ---- */

static const char *folder;

static void folder_setup(void)
{
    pool_setup();
    char name[] = "/tmp/aip-watched.XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(name));
    folder = apr_pstrdup(pool, name);
}

static void folder_teardown(void)
{
    unlink(apr_pstrcat(pool, folder, "/file", NULL));
    unlink(apr_pstrcat(pool, folder, "/new", NULL));
    rmdir(folder);
    pool_teardown();
}

/* By another name first, as an editor would. */
static const char *write_file(const char *text)
{
    const char *path = apr_pstrcat(pool, folder, "/file", NULL);
    const char *draft = apr_pstrcat(pool, folder, "/new", NULL);
    FILE *file = fopen(draft, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    ck_assert_int_eq(rename(draft, path), 0);
    return path;
}

/* A file whose every byte is the same; others are broken. */
static void *parse_same(const char *text, size_t len, apr_pool_t *own, const char **error)
{
    for (size_t i = 1; i < len; i++) {
        if (text[i] != text[0]) {
            *error = "bytes differ";
            return NULL;
        }
    }
    return apr_pstrmemdup(own, text, len);
}

static const char *seen(aip_watched_t *file, apr_time_t now, const char **error)
{
    const char *text = apr_pstrdup(pool, aip_watched_acquire(file, now, pool, error));
    aip_watched_release(file);
    return text;
}

START_TEST(follows)
{
    const char *error, *path = write_file("aaaa");
    apr_time_t t = apr_time_now();
    aip_watched_t *file = aip_watched_open(path, parse_same, pool, &error);
    ck_assert_msg(file != NULL, "%s", error);
    ck_assert_str_eq(seen(file, t, &error), "aaaa");
    write_file("bbbb");
    ck_assert_str_eq(seen(file, t + apr_time_from_msec(900), &error), "aaaa");
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(1), &error), "bbbb");
    ck_assert_ptr_null(error);
    write_file("abab");
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(2), &error), "bbbb");
    ck_assert_ptr_nonnull(strstr(error, "/file: bytes differ"));
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(3), &error), "bbbb");
    ck_assert_ptr_null(error); /* said once */
    unlink(path);
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(4), &error), "bbbb");
    ck_assert_ptr_nonnull(strstr(error, "cannot read"));
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(5), &error), "bbbb");
    ck_assert_ptr_null(error);
    write_file("c");
    ck_assert_str_eq(seen(file, t + apr_time_from_sec(6), &error), "c");
    unlink(path);
    seen(file, t + apr_time_from_sec(7), &error);
    ck_assert_ptr_nonnull(error); /* a new trouble, though it looks like the last one */
    write_file("d");
    ck_assert_str_eq(seen(file, t - apr_time_from_sec(3600), &error), "d"); /* the clock was set */
}
END_TEST

START_TEST(refuses)
{
    const char *error, *path = write_file("ab");
    ck_assert_ptr_null(aip_watched_open(path, parse_same, pool, &error));
    ck_assert_ptr_nonnull(strstr(error, "/file: bytes differ"));
    unlink(path);
    ck_assert_ptr_null(aip_watched_open(path, parse_same, pool, &error));
    ck_assert_ptr_nonnull(strstr(error, "No such file"));
    ck_assert_ptr_null(aip_watched_open(folder, parse_same, pool, &error));
    ck_assert_ptr_nonnull(strstr(error, "no regular file"));
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(aip_watched_open(path, parse_same, pool, &error));
    ck_assert_ptr_nonnull(strstr(error, "no regular file"));
}
END_TEST

START_TEST(public_file)
{
    const char *error, *path = write_file("a");
    chmod(path, 0644);
    ck_assert(aip_watched_is_public(aip_watched_open(path, parse_same, pool, &error)));
    chmod(path, 0640);
    ck_assert(!aip_watched_is_public(aip_watched_open(path, parse_same, pool, &error)));
}
END_TEST

typedef struct reader_t {
    aip_watched_t *file;
    apr_time_t start;
    atomic_bool stop;
    atomic_int reads, torn, changes;
} reader_t;

/* A clock that runs a thousand times as fast makes each look due. */
static void *APR_THREAD_FUNC read_on(apr_thread_t *thread, void *data)
{
    reader_t *reader = data;
    (void)thread;
    char last = 0;
    while (!atomic_load(&reader->stop)) {
        apr_pool_t *own;
        const char *error;
        apr_pool_create_unmanaged_ex(&own, NULL, NULL);
        apr_time_t now = reader->start + (apr_time_now() - reader->start) * 1000;
        const char *text = aip_watched_acquire(reader->file, now, own, &error);
        for (const char *p = text; *p; p++) {
            atomic_fetch_add(&reader->torn, *p != *text);
        }
        atomic_fetch_add(&reader->torn, strlen(text) != 1000);
        atomic_fetch_add(&reader->changes, last && last != *text);
        last = *text;
        aip_watched_release(reader->file);
        atomic_fetch_add(&reader->reads, 1);
        apr_pool_destroy(own);
    }
    return NULL;
}

START_TEST(threads)
{
    char text[1001] = {0};
    const char *error;
    apr_thread_t *thread[8];
    apr_status_t rv;
    memset(text, 'a', 1000);
    reader_t reader = {.start = apr_time_now()};
    reader.file = aip_watched_open(write_file(text), parse_same, pool, &error);
    ck_assert_ptr_nonnull(reader.file);
    for (int i = 0; i < ROWS(thread); i++) {
        apr_thread_create(&thread[i], NULL, read_on, &reader, pool);
    }
    for (int i = 1; i < 200; i++) {
        memset(text, 'a' + i % 26, 1000);
        write_file(text);
        usleep(2000);
    }
    atomic_store(&reader.stop, true);
    for (int i = 0; i < ROWS(thread); i++) {
        apr_thread_join(&rv, thread[i]);
    }
    ck_assert_int_eq(atomic_load(&reader.torn), 0);
    ck_assert_int_gt(atomic_load(&reader.reads), 1000);
    ck_assert_int_gt(atomic_load(&reader.changes), 100);
}
END_TEST

Suite *apikey_suite(void)
{
    Suite *suite = suite_create("apikey");
    TCase *tcase = tcase_create("keys and groups");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, find);
    tcase_add_test(tcase, lengths);
    tcase_add_loop_test(tcase, faulty, 0, ROWS(faults));
    tcase_add_test(tcase, odd);
    tcase_add_test(tcase, many);
    tcase_add_test(tcase, groups);
    tcase_add_test(tcase, split);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("files");
    tcase_add_checked_fixture(tcase, folder_setup, folder_teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, follows);
    tcase_add_test(tcase, refuses);
    tcase_add_test(tcase, public_file);
    tcase_add_test(tcase, threads);
    suite_add_tcase(suite, tcase);
    return suite;
}
