/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the directive table in four shapes: `names` for the guards and tests, `conf` is
 * conf/ai_proxy_adv.conf, `directives` is docs/directives.md, `fields` is docs/kong-fields.md.
 * `make docs` writes the files, t/guards.sh compares them. A row that fits no group is an error, so
 * that no directive can be left out of a document. */
#include "aip/fields.h"

#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <stdio.h>
#include <string.h>

/** Rows whose directive begins with `prefix` and which no earlier group took. */
typedef struct group_t {
    aip_place_e place;
    const char *prefix, *anchor, *title, *text;
} group_t;

/* Longer prefixes stand before shorter ones of the same table. */
static const group_t groups[] = {
    {AIP_IN_LOCATION, "AIBalancer", "balancing", "Balancing and failover",
     "In which order targets are tried, and when the next one is."},
    {AIP_IN_LOCATION, "AIEmbeddings", "embeddings", "Embeddings",
     "How the prompt becomes a vector."},
    {AIP_IN_LOCATION, "AIVectordb", "vector-store", "Vector store",
     "Where the vectors of the descriptions are searched, and how near a prompt must be."},
    {AIP_IN_LOCATION, "AIRoute", "routing", "Routing by meaning",
     "Which text is compared, and what happens when it cannot be."},
    {AIP_IN_LOCATION, "AIA", "access", "Who may use it",
     "API keys, and rules about clients and models: docs/access.md."},
    {AIP_IN_LOCATION, "AIEgress", "egress", "Egress",
     "How everything that leaves the server leaves it: for the main server or a <VirtualHost>."},
    {AIP_IN_LOCATION, "AISta", "state-and-statistics", "State and statistics",
     "What the gateway keeps in files and writes to logs."},
    {AIP_IN_LOCATION, "AITraces", "traces", "Traces",
     "Trace context and spans, for the main server or a <VirtualHost>: docs/traces.md."},
    {AIP_IN_LOCATION, "AI", "gateway", "The gateway",
     "What a gateway section accepts and answers."},
    {AIP_IN_TARGET, "AIAuth", "target-credential", "Credential of a target",
     "Written into the request to the target and nowhere else."},
    {AIP_IN_TARGET, "AILogging", "target-logging", "Logging of a target",
     "What is written to AIStatisticsLog."},
    {AIP_IN_TARGET, "AIModelOptions", "target-options", "Model options of a target",
     "Values that win over the client's, and where the model is served."},
    {AIP_IN_TARGET, "AI", "target", "Target", "What the target serves and what it is for."},
    {AIP_IN_VAULT, "AIVault", "vault", "Vault",
     "Where the secrets of references that name it are, and how long they are kept."},
};
enum { N_GROUPS = sizeof groups / sizeof *groups };

/* The order in which documents show the groups. */
static const int shown[N_GROUPS] = {8, 4, 0, 1, 2, 3, 5, 6, 7, 12, 9, 10, 11, 13};

static apr_pool_t *pool;

static int group_of(const aip_field_t *row)
{
    for (int g = 0; g < N_GROUPS; g++) {
        if (groups[g].place == row->place &&
            strncmp(row->directive, groups[g].prefix, strlen(groups[g].prefix)) == 0) {
            return g;
        }
    }
    return -1;
}

/* All rows, the tables one after the other. */
static const aip_field_t *row_at(int i)
{
    if (i < AIP_LOCATION_COUNT) {
        return &aip_location_table[i];
    }
    i -= AIP_LOCATION_COUNT;
    if (i < AIP_TARGET_COUNT) {
        return &aip_target_table[i];
    }
    i -= AIP_TARGET_COUNT;
    return i < AIP_VAULT_COUNT ? &aip_vault_table[i] : NULL;
}

static const char *type_name(const aip_field_t *row)
{
    switch (row->kind) {
    case AIP_KIND_FLAG:
        return "boolean";
    case AIP_KIND_INT:
    case AIP_KIND_PORT:
        return "integer";
    case AIP_KIND_NUM:
        return "number";
    case AIP_KIND_STR:
    case AIP_KIND_ENUM:
        return "string";
    case AIP_KIND_SET:
    case AIP_KIND_ACL:
    case AIP_KIND_RATES:
        return "array";
    case AIP_KIND_LIST:
        return "list";
    case AIP_KIND_SCOPE:
        return "scope";
    case AIP_KIND_STICKY:
        return "rule";
    }
    return "";
}

static const char *replace(const char *text, char from, const char *to)
{
    const char *out = "";
    for (const char *p; (p = strchr(text, from)) != NULL; text = p + 1) {
        out = apr_pstrcat(pool, out, apr_pstrmemdup(pool, text, (apr_size_t)(p - text)), to, NULL);
    }
    return apr_pstrcat(pool, out, text, NULL);
}

static const char *number(double value)
{
    return apr_psprintf(pool, "%" APR_INT64_T_FMT, (apr_int64_t)value); /* all bounds are whole */
}

static const char *range(const aip_field_t *row)
{
    if (row->words && row->kind != AIP_KIND_RATES) {
        return replace(row->words, '|', ", ");
    }
    if (row->kind == AIP_KIND_INT || row->kind == AIP_KIND_NUM || row->kind == AIP_KIND_PORT) {
        return apr_pstrcat(pool, number(row->low), "..", number(row->high), NULL);
    }
    return "";
}

/* What an operator may write after the directive. */
static const char *syntax(const aip_field_t *row)
{
    switch (row->kind) {
    case AIP_KIND_FLAG:
        return "On|Off";
    case AIP_KIND_INT:
    case AIP_KIND_NUM:
    case AIP_KIND_PORT:
        return "number";
    case AIP_KIND_STR:
        return row->flags & AIP_F_SECRET ? "secret" : "value";
    case AIP_KIND_ENUM:
        return row->words;
    case AIP_KIND_SET:
        return "word ...";
    case AIP_KIND_LIST:
        return "text";
    case AIP_KIND_SCOPE:
        return "last-user|all-user|last N|all";
    case AIP_KIND_STICKY:
        return "off|header NAME|cookie NAME|conversation";
    case AIP_KIND_ACL:
        return "TYPE=VALUE[,VALUE...] ...";
    case AIP_KIND_RATES:
        return replace(row->words, '|', " ");
    }
    return "";
}

static const char *place_name(const aip_field_t *row)
{
    static const char *const places[] = {
        [AIP_IN_LOCATION] = "location", [AIP_IN_TARGET] = "target", [AIP_IN_VAULT] = "vault"};
    return places[row->place];
}

static void names(void)
{
    const aip_field_t *row;
    for (int i = 0; (row = row_at(i)) != NULL; i++) {
        printf("%s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", row->directive, row->field, place_name(row),
               type_name(row), row->default_text ? row->default_text : "", range(row),
               row->flags & AIP_F_VAULT ? "V" : "", row->flags & AIP_F_SECRET ? "E" : "");
    }
}

/* A comment of at most 100 columns. */
static void wrap(const char *indent, const char *text)
{
    size_t used = 0, lead = strlen(indent) + 2;
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (used && used + 1 + n > 100) {
            putchar('\n');
            used = 0;
        }
        used += used ? 1 + n : lead + n;
        printf("%s%.*s", used == lead + n ? apr_pstrcat(pool, "# ", indent, NULL) : " ", (int)n,
               word);
        word += n;
        word += strspn(word, " ");
    }
    putchar('\n');
}

static void conf_row(const aip_field_t *row)
{
    const char *indent = row->place == AIP_IN_LOCATION ? "" : "    ";
    const char *facts =
        apr_pstrcat(pool, "Default: ", row->default_text ? row->default_text : "unset", ".", NULL);
    if (*range(row)) {
        const char *lead = row->kind == AIP_KIND_SET ? " One or more of: "
                           : row->words              ? " One of: "
                                                     : " Range: ";
        facts = apr_pstrcat(pool, facts, lead, range(row), ".", NULL);
    }
    if (row->flags & AIP_F_VAULT) {
        facts = apr_pstrcat(pool, facts, " Takes {vault://...}, see docs/secrets.md.", NULL);
    }
    putchar('\n');
    wrap(indent, row->help);
    wrap(indent, facts);
    const char *value = row->default_text ? row->default_text : syntax(row);
    printf("#%s%s %s\n", indent, row->directive, value);
}

/* The line that opens a section of directives, and the one that closes the section before. */
static void conf_section(aip_place_e place)
{
    if (place == AIP_IN_TARGET) {
        puts("\n#\n# One model endpoint; the name is unique in its section. SSLProxy* directives "
             "are "
             "legal inside.\n#\n#<AITarget name>");
    } else if (place == AIP_IN_VAULT) {
        puts(
            "\n#</AITarget>\n\n#\n# Where references of the form {vault://prefix/...} find their "
            "secrets; legal in the server\n# config and <VirtualHost>. The vaults env and file are "
            "there without a section.\n#\n#<AIVault prefix>");
    }
}

static void conf(void)
{
    puts("# SPDX-License-Identifier: Apache-2.0");
    puts("#\n# Every directive of mod_ai_proxy_adv, as comments: nothing here changes what httpd "
         "does. Written by\n"
         "# t/tools/dump_fields from the directive table; do not edit. docs/directives.md is the "
         "same as tables,\n"
         "# conf/examples/ has working configurations.\n#\n"
         "# Outside <AITarget> all directives are legal in the server config, <VirtualHost>, "
         "<Location>,\n"
         "# <LocationMatch> and <If>; they merge one by one. A section that defines targets "
         "replaces the list\n"
         "# that it would inherit.");
    for (int s = 0; s < N_GROUPS; s++) {
        const group_t *group = &groups[shown[s]];
        const aip_field_t *row;
        if (group->place != groups[shown[s ? s - 1 : 0]].place) {
            conf_section(group->place);
        }
        printf("\n# ---- %s ----\n", group->title);
        wrap(group->place == AIP_IN_LOCATION ? "" : "    ", group->text);
        for (int i = 0; (row = row_at(i)) != NULL; i++) {
            if (group_of(row) == shown[s]) {
                conf_row(row);
            }
        }
    }
    puts("\n#</AIVault>");
}

static const char *anchor(const char *directive)
{
    char *lower = apr_pstrdup(pool, directive);
    for (char *p = lower; *p; p++) {
        *p = (char)apr_tolower(*p);
    }
    return lower;
}

static const char *cell(const char *text)
{
    return replace(replace(text, '|', "\\|"), '<', "&lt;");
}

static const char *code(const char *text)
{
    return *text ? apr_pstrcat(pool, "`", replace(text, '|', "\\|"), "`", NULL) : "";
}

static void directive_row(const aip_field_t *row)
{
    const char *values = *range(row) ? range(row) : replace(syntax(row), '|', ", ");
    const char *help = row->help;
    if (row->flags & AIP_F_VAULT) {
        help = apr_pstrcat(pool, help, " Takes {vault://...}.", NULL);
    }
    if (row->flags & AIP_F_SECRET) {
        help = apr_pstrcat(pool, help, " Never shown.", NULL);
    }
    printf("| <a id=\"%s\"></a>`%s` | %s | %s | %s | %s |\n", anchor(row->directive),
           row->directive, row->default_text ? code(row->default_text) : "unset", cell(values),
           strcmp(row->field, "-") == 0 ? "extension" : code(row->field), cell(help));
}

static void section_heading(aip_place_e place)
{
    if (place == AIP_IN_TARGET) {
        puts("\n## <a id=\"aitarget\"></a>`<AITarget name> ... </AITarget>`\n");
        puts("One model endpoint. The name (letters, digits, `-`, `_`, `.`) is unique in its "
             "section, the order of the\n"
             "targets is kept. The directives below are legal inside only; `SSLProxy*` is "
             "legal inside too and holds for\n"
             "this target alone.");
    } else if (place == AIP_IN_VAULT) {
        puts("\n## <a id=\"aivault\"></a>`<AIVault prefix> ... </AIVault>`\n");
        puts("Where references `{vault://prefix/...}` find their secrets; legal in the server "
             "config "
             "and `<VirtualHost>`. The\n"
             "vaults `env` and `file` are there without a section. See [secrets.md](secrets.md).");
    }
}

static void directives(void)
{
    puts("# Directives\n");
    puts("Written by `t/tools/dump_fields` from the directive table (`include/aip/fields.h`); "
         "`make docs` renews it. The last\n"
         "but one column is the field of Kong's AI Proxy Advanced that a directive stands for, see "
         "also\n"
         "[kong-fields.md](kong-fields.md); an *extension* has none.\n");
    puts("Directives of the gateway are legal in the server config, `<VirtualHost>`, `<Location>`, "
         "`<LocationMatch>` and\n"
         "`<If>`, not in `.htaccess`, `<Directory>` and `<Files>`. Sections merge directive by "
         "directive; a section that\n"
         "defines targets replaces the inherited list of targets.");
    for (int s = 0; s < N_GROUPS; s++) {
        const group_t *group = &groups[shown[s]];
        const aip_field_t *row;
        if (group->place != groups[shown[s ? s - 1 : 0]].place) {
            section_heading(group->place);
        }
        printf("\n## <a id=\"%s\"></a>%s\n\n%s\n\n", group->anchor, group->title, group->text);
        puts("| Directive | Default | Values | Field | Meaning |\n| --- | --- | --- | --- | --- |");
        for (int i = 0; (row = row_at(i)) != NULL; i++) {
            if (group_of(row) == shown[s]) {
                directive_row(row);
            }
        }
    }
}

static void field_rows(bool extensions)
{
    const aip_field_t *row;
    for (int i = 0; (row = row_at(i)) != NULL; i++) {
        if ((strcmp(row->field, "-") == 0) == extensions) {
            printf("| %s | [`%s`](directives.md#%s) | %s | %s |\n",
                   extensions ? (row->place == AIP_IN_TARGET  ? "`<AITarget>`"
                                 : row->place == AIP_IN_VAULT ? "`<AIVault>`"
                                                              : "gateway")
                              : code(row->field),
                   row->directive, anchor(row->directive), type_name(row),
                   row->default_text ? code(row->default_text) : "unset");
        }
    }
}

static void fields(void)
{
    puts("# Fields of Kong's AI Proxy Advanced and their directives\n");
    puts("Written by `t/tools/dump_fields` from the directive table; `make docs` renews it. A "
         "directive's name is `AI` and the\n"
         "words of the path in CamelCase, without `targets[].` inside "
         "[`<AITarget>`](directives.md#aitarget). A field that is\n"
         "not in this list has no directive: httpd refuses it as unknown, nothing is accepted and "
         "ignored.\n");
    puts("| Field | Directive | Type | Default |\n| --- | --- | --- | --- |\n"
         "| `targets[]` | [`<AITarget name>`](directives.md#aitarget) | section | required |");
    field_rows(false);
    puts("\n## Extensions\n\nDirectives without a field of Kong's.\n");
    puts("| Where | Directive | Type | Default |\n| --- | --- | --- | --- |");
    field_rows(true);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*write)(void);
    } modes[] = {{"names", names}, {"conf", conf}, {"directives", directives}, {"fields", fields}};
    const aip_field_t *row;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    for (int i = 0; (row = row_at(i)) != NULL; i++) {
        if (group_of(row) < 0) {
            fprintf(stderr, "dump_fields: %s fits no group\n", row->directive);
            return 1;
        }
    }
    for (size_t i = 0; argc == 2 && i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].write();
            return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
        }
    }
    fputs("usage: dump_fields names|conf|directives|fields\n", stderr);
    return 2;
}
