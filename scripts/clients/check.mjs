// The official TypeScript SDK against a running mcpm; started by scripts/client-check.
//
// Environment: ALICE_URL, BOB_URL (instance URLs), ALICE_KEY, BOB_KEY (their credentials),
// PID_FILE (of the service). Prints a line for each thing that holds; throws at the first that
// doesn't.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const { ALICE_URL, BOB_URL, ALICE_KEY, BOB_KEY, PID_FILE } = process.env;
const COUNT_TO = 5;
const DELAY_MS = 200;

const pass = (what) => console.log(`ok  typescript: ${what}`);
const pid = () => Number(readFileSync(PID_FILE, 'utf8'));

function isThere(process_id) {
  try {
    process.kill(process_id, 0);
    return true;
  } catch {
    return false;
  }
}

async function connect(url) {
  const client = new Client({ name: 'mcpm-client-check', version: '1.0.0' });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}

async function echo(client, message) {
  const result = await client.callTool({ name: 'echo', arguments: { message } });
  assert.equal(result.content[0].text, message);
}

async function whoami(client) {
  const result = await client.callTool({ name: 'whoami', arguments: {} });
  return result.structuredContent;
}

const alice = await connect(ALICE_URL);
const bob = await connect(BOB_URL);
pass(`alice and bob connect over streamable HTTP to ${alice.getServerVersion().name}`);

const { tools } = await alice.listTools();
assert.deepEqual(tools.map((tool) => tool.name).sort(), ['count', 'echo', 'whoami']);
pass('lists the tools');

await echo(alice, 'grüße, "alice" 🙂');
pass('echo says back what it was told');

const [seenAlice, seenBob] = await Promise.all([whoami(alice), whoami(bob)]);
for (const [seen, user, key] of [[seenAlice, 'alice', ALICE_KEY], [seenBob, 'bob', BOB_KEY]]) {
  assert.equal(seen.user, user);
  assert.equal(seen.service, 'demo');
  assert.equal(seen.credential, `Bearer ${key.slice(0, 3)}…${key.slice(-4)}`);
  assert.match(seen.instance, /^ins_/);
}
assert.notEqual(seenAlice.instance, seenBob.instance);
pass('the service sees alice with her credential and bob with his');

const began = performance.now();
const arrivals = [];
await alice.callTool(
  { name: 'count', arguments: { to: COUNT_TO, delay_ms: DELAY_MS } },
  undefined,
  { onprogress: (progress) => arrivals.push([progress.progress, performance.now() - began]) },
);
assert.deepEqual(arrivals.map(([step]) => step), [1, 2, 3, 4, 5]);
// The service waits DELAY_MS before each step: it cannot have sent the last one earlier than this.
const lastSent = COUNT_TO * DELAY_MS;
const first = arrivals[0][1];
assert.ok(first < lastSent, `the first event arrived after ${first} ms, the last was sent at ${lastSent} ms`);
pass(`progress arrives event by event: the first after ${Math.round(first)} ms, the last was sent after ${lastSent} ms`);

const before = pid();
process.kill(before, 'SIGKILL');
const killed = performance.now();
while (isThere(before)) await sleep(1);
// No second try: the router holds the request until the service is back.
await echo(alice, 'back again');
const back = Math.round(performance.now() - killed);
assert.notEqual(pid(), before, 'the service has a new pid');
pass(`the service was killed: the next call of the same client is answered, ${back} ms later`);

await alice.close();
await bob.close();
