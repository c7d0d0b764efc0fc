// A session of a TypeScript SDK whose service is killed three times; started by scripts/session-check.
//
//   node survive.mjs 1           the SDK 1.x
//   node survive.mjs 2 MODE      the SDK 2.x; MODE is `legacy` or `auto`
//
// Environment: URL (of an instance of server-everything), PID_FILE (of the service). Throws at the
// first call that fails.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const KILLS = 3;
const { URL: url, PID_FILE } = process.env;
const [, , version, mode] = process.argv;
const label = ['typescript', version, mode].filter(Boolean).join(' ');

async function connect() {
  const info = { name: 'mcpm-session-check', version: '1.0.0' };
  if (version === '1') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import(
      '@modelcontextprotocol/sdk/client/streamableHttp.js'
    );
    const client = new Client(info);
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const client = new Client(info, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}

async function echo(client, message) {
  const result = await client.callTool({ name: 'echo', arguments: { message } });
  assert.match(result.content[0].text, new RegExp(message));
}

const client = await connect();
await echo(client, 'before');
const waits = [];
for (let kill = 1; kill <= KILLS; kill++) {
  process.kill(Number(readFileSync(PID_FILE, 'utf8')), 'SIGKILL');
  const began = performance.now();
  await echo(client, `after-${kill}`);
  waits.push(Math.round(performance.now() - began));
  assert.ok((await client.listTools()).tools.length > 0);
}
console.log(`ok  ${label}: ${KILLS} kills, no call failed; waits ${waits.join(', ')} ms`);
process.exit(0);
