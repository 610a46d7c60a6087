/* SPDX-License-Identifier: Apache-2.0 */
/* The style sheet of the status page: one text, whose digest the page's Content-Security-Policy
 * names. No outside font or image; light and dark; wide tables scroll by themselves. */
#include "status.h"

#include <apr_strings.h>

static const char colours[] =
    ":root{color-scheme:light dark;--bg:#f4f6f9;--card:#fff;--text:#1b1f24;--mute:#525c66;"
    "--line:#d5dbe1;--link:#0a4fb8;--good:#0f5a26;--goodbg:#dcf3e2;--warn:#6f4400;--warnbg:#fdecc8;"
    "--bad:#96091f;--badbg:#fde3e5;--bar:#2f6fd0;--bar2:#0f8a7e;--err:#c4283c;--btn:#0a4fb8;--"
    "btntext:#fff}"
    "@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171c23;--text:#e8edf3;"
    "--mute:#a3adb8;--line:#323a45;--link:#86bdff;--good:#7ee29a;--goodbg:#10331c;--warn:#f0c96b;"
    "--warnbg:#3a2c08;--bad:#ff9da3;--badbg:#45141a;--bar:#5b9bf5;--bar2:#4ecfc0;--err:#ff7b84;--"
    "btn:#1c4f9c;"
    "--btntext:#fff}}";

static const char layout[] =
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,\"Helvetica Neue\",\"DejaVu Sans\",sans-serif}"
    "header,main,footer{max-width:1320px;margin:0 auto;padding:0 16px}"
    "header{padding-top:20px}footer{padding-bottom:32px;color:var(--mute)}"
    "h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.2rem;margin:0;overflow-wrap:anywhere}"
    "h3,h4{font-size:1rem;margin:24px 0 8px}"
    "p{margin:4px 0}a{color:var(--link)}.mute{color:var(--mute)}"
    ".skip{position:absolute;left:-9999px}.skip:focus{position:static;display:inline-block;"
    "padding:8px}"
    ".hide{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);"
    "white-space:nowrap}"
    ":focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:2px}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:16px;"
    "margin:16px 0}"
    ".head{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline;"
    "justify-content:space-between}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(135px,1fr));gap:8px;"
    "margin:12px 0 0;padding:0}"
    ".tiles div{border:1px solid var(--line);border-radius:6px;padding:8px 12px}"
    ".tiles dt{color:var(--mute);font-size:.85rem}"
    ".tiles dd{margin:0;font-size:1.05rem;font-weight:600;overflow-wrap:anywhere}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(230px,1fr));gap:12px;"
    "margin-top:12px}"
    "figure{margin:0;min-width:0}figcaption{font-size:.85rem;color:var(--mute)}"
    "figcaption b{color:var(--text)}"
    "svg{display:block;width:100%;height:56px}.chart .b{fill:var(--bar)}.chart .e{fill:var(--err)}"
    ".chart .o{fill:var(--bar2)}"
    ".axis{stroke:var(--line)}"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:8px 24px;"
    "margin:0}.facts dt{color:var(--mute);font-size:.85rem}"
    ".facts dd{margin:0;overflow-wrap:anywhere}";

static const char widgets[] =
    ".scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;position:relative;"
    "margin-top:8px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "caption{text-align:left;padding:8px 9px;color:var(--mute);font-size:.85rem}"
    "th,td{text-align:left;padding:6px 9px;border-top:1px solid var(--line);vertical-align:top;"
    "white-space:nowrap}"
    "th{font-weight:600}thead th{font-size:.85rem;color:var(--mute)}"
    ".n{text-align:right}.wrap{white-space:normal;min-width:14em;max-width:34em;"
    "overflow-wrap:anywhere}"
    ".sub{display:block;color:var(--mute);font-size:.85rem;font-weight:400}"
    ".badge{display:inline-block;padding:0 8px;border-radius:10px;font-size:.85rem;font-weight:600}"
    ".good{background:var(--goodbg);color:var(--good)}.warn{background:var(--warnbg);"
    "color:var(--warn)}.bad{background:var(--badbg);color:var(--bad)}"
    ".note{padding:10px 14px;border-radius:6px;margin:12px 0;overflow-wrap:anywhere}"
    "form{margin:0}label{display:block;font-weight:600;margin-bottom:4px}"
    "textarea{width:100%;min-height:5.5em;font:inherit;color:inherit;background:var(--bg);"
    "border:1px solid var(--mute);border-radius:6px;padding:8px}"
    "button{font:inherit;font-weight:600;background:var(--btn);color:var(--btntext);border:1px "
    "solid var(--btn);border-radius:6px;padding:4px 14px;min-height:32px;cursor:pointer}"
    "button:hover{filter:brightness(1.12)}"
    "summary{cursor:pointer;font-weight:600;padding:4px 0}details{margin-top:16px}"
    ".dist{width:180px;height:16px}.dist .track{fill:var(--line)}.dist .near{fill:var(--bar)}"
    ".dist .far{fill:var(--mute)}.dist .limit{stroke:var(--err);stroke-width:2}"
    "nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:8px 0;padding:0}"
    "nav a{overflow-wrap:anywhere}"
    "@media(max-width:600px){header,main,footer{padding-left:12px;padding-right:12px}"
    ".card{padding:12px}.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}"
    "th,td{padding:6px 8px}}";

const char *aip_page_style(apr_pool_t *pool)
{
    return apr_pstrcat(pool, colours, layout, widgets, NULL);
}
