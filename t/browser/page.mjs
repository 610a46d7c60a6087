// SPDX-License-Identifier: Apache-2.0
// The status page in a real Chromium, for t/73_browser.t: layout, accessibility (axe), contrast in both schemes, keyboard,
// JavaScript on and off. Prints TAP lines without a plan; screenshots go to a folder.
//
//   node page.mjs URL FOLDER          CHROMIUM names the browser
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const require = createRequire(join(process.env.AIP_BROWSER_DIR, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const [url, folder] = process.argv.slice(2);
const sizes = [{ width: 360, height: 740 }, { width: 1280, height: 900 }];
let failed = 0;

function check(good, name, detail) {
    console.log(`${good ? 'ok' : 'not ok'} - ${name}`);
    if (!good) {
        failed++;
        console.log(`# ${JSON.stringify(detail ?? '', null, 1).split('\n').slice(0, 60).join('\n# ')}`);
    }
}

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
});

// A page on its own, with what the browser complains of and all that it asks for.
async function open(options, path = '') {
    const context = await browser.newContext({ bypassCSP: false, ...options });
    const page = await context.newPage();
    page.complaints = [];
    page.asked = [];
    page.on('console', (m) => ['error', 'warning'].includes(m.type()) && page.complaints.push(m.text()));
    page.on('pageerror', (e) => page.complaints.push(String(e)));
    page.on('request', (r) => page.asked.push(r.url()));
    await page.goto(url + path, { waitUntil: 'load' });
    return page;
}

const wider = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

// What axe finds. It runs in an isolated world of the debugger's, which the page's policy does not reach.
async function violations(page) {
    // Rows of a table are all alike, and axe takes its time over each.
    await page.evaluate(() => document.querySelectorAll('tbody tr:nth-child(n+8)').forEach((row) => row.remove()));
    const client = await page.context().newCDPSession(page);
    const { frameTree } = await client.send('Page.getFrameTree');
    const { executionContextId } = await client.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
    const run = async (expression) => {
        const answer = await client.send('Runtime.evaluate', {
            expression, contextId: executionContextId, awaitPromise: true, returnByValue: true,
        });
        if (answer.exceptionDetails) throw new Error(JSON.stringify(answer.exceptionDetails));
        return answer.result.value;
    };
    await run(`${axe};0`);
    const result = await run(`axe.run(document, { resultTypes: ['violations', 'incomplete'], runOnly:
        ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then(r => ({ passes: r.passes.length,
        violations: r.violations.map(v => ({ id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)) })) }))`);
    check(result.passes > 10, 'axe has looked', result);
    return result.violations;
}

// ---- looks: every size in every scheme, with everything unfolded ----
for (const viewport of sizes) {
    for (const colorScheme of ['light', 'dark']) {
        const name = `${viewport.width} px, ${colorScheme}`;
        const page = await open({ viewport, colorScheme });
        await page.screenshot({ path: join(folder, `status-${viewport.width}-${colorScheme}.png`) });
        if (colorScheme === 'light') {
            await page.screenshot({ path: join(folder, `whole-${viewport.width}.png`), fullPage: true });
        }
        await page.evaluate(() => document.querySelectorAll('details').forEach((d) => { d.open = true; }));
        check(await wider(page) <= 0, `${name}: nothing is wider than the screen`, await wider(page));
        const found = await violations(page);
        check(found.length === 0, `${name}: axe finds nothing`, found);
        check(page.complaints.length === 0, `${name}: the console is empty`, page.complaints);
        check(page.asked.every((u) => u.startsWith(new URL(url).origin + new URL(url).pathname)), `${name}: nothing from outside`, page.asked);
        await page.context().close();
    }
}

// ---- keyboard, without JavaScript: to a drain button, Enter, drained; and back ----
async function tab_to(page, text) {
    for (let i = 0; i < 200; i++) {
        await page.keyboard.press('Tab');
        const at = page.locator(':focus');
        if (await at.count() && (await at.innerText()).replace(/\s+/g, ' ').trim() === text) return true;
    }
    return false;
}

for (const javaScriptEnabled of [false, true]) {
    const name = `JavaScript ${javaScriptEnabled ? 'on' : 'off'}`;
    const page = await open({ viewport: sizes[1], javaScriptEnabled });
    await page.keyboard.press('Tab');
    check((await page.locator(':focus').innerText()) === 'Skip to the gateways', `${name}: the first stop is the skip link`);
    check((await page.locator(':focus').boundingBox()).x >= 0, `${name}: which is seen then`);
    check(await tab_to(page, 'Drain mistral-small'), `${name}: Tab reaches a drain button`);
    if (javaScriptEnabled) {
        const outline = await page.locator(':focus').evaluate((e) => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth);
        check(outline === 'solid3px', `${name}: the focus is seen`, outline);
    }
    await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
    check((await page.locator('[role=status]').innerText()).includes('mistral-small of /assistant is drained'), `${name}: Enter drains it`,
        await page.locator('main').innerText());
    const row = page.locator('tr', { has: page.locator('th:has-text("mistral-small")') }).first();
    check((await row.innerText()).includes('drained'), `${name}: the table says so`);
    check(await tab_to(page, 'Resume mistral-small'), `${name}: Tab reaches the button that takes it back`);
    await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
    check((await page.locator('[role=status]').innerText()).includes('back in service'), `${name}: Enter resumes it`);
    await page.goBack();
    await page.reload();
    check(page.asked.length && (await page.locator('h1').innerText()) === 'AI gateway status', `${name}: back and reload repeat no order`);
    check(page.complaints.length === 0, `${name}: the console is empty`, page.complaints);
    await page.context().close();
}

// ---- the try-it box ----
for (const [viewport, colorScheme] of [[sizes[1], 'light'], [sizes[0], 'dark']]) {
    const name = `try it, ${viewport.width} px, ${colorScheme}`;
    const page = await open({ viewport, colorScheme, javaScriptEnabled: viewport === sizes[0] });
    const prompt = 'What does the `map()` function do in Python?';
    const box = page.locator('section', { has: page.locator('h2:has-text("/assistant")') }).locator('textarea');
    await box.fill(prompt);
    await page.keyboard.press('Tab');
    await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
    const text = (await page.locator('[id^=r]').innerText()).replace(/\s+/g, ' ');
    check(/Where this prompt would go Target code-large Reason match/.test(text), `${name}: says where it would go`, text);
    check(!page.url().includes('map'), `${name}: the prompt is in no URL`);
    check(await box.inputValue() === prompt, `${name}: the prompt stays in the box`);
    check(await wider(page) <= 0, `${name}: nothing is wider than the screen`);
    if (viewport === sizes[0]) {
        const found = await violations(page);
        check(found.length === 0, `${name}: axe finds nothing`, found);
    }
    check(page.complaints.length === 0, `${name}: the console is empty`, page.complaints);
    const shot = { path: join(folder, `status-try-${viewport.width}-${colorScheme}.png`) };
    await (viewport === sizes[1] ? page.locator('[id^=r]').screenshot(shot) : page.screenshot(shot));
    await page.context().close();
}

// ---- reading again by itself ----
const page = await open({ viewport: sizes[1] }, '?refresh=5');
check(await page.locator('meta[http-equiv=refresh]').getAttribute('content') === '5;url=?refresh=5', 'refresh: when it is asked for');
await page.context().close();
await browser.close();
process.exit(failed ? 1 : 0);
