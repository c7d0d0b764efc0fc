// Two users call shared/server.mjs at the same time, under the same ids; started by scripts/session-check.
//
//   node cross.mjs ROUNDS           each gets their own answer, each time
//   node cross.mjs ROUNDS crosses   the opposite: somebody gets none, or another one's
//
// Environment: ALICE_URL, BOB_URL.
import http from 'node:http';

const [, , rounds, wanted] = process.argv;
const USERS = { alice: process.env.ALICE_URL, bob: process.env.BOB_URL };
const TIMEOUT_MS = 5000;
const agent = new http.Agent({ keepAlive: true });

// What was answered, or what else happened.
function whoami(url, id, ms) {
  const params = { name: 'whoami', arguments: { ms } };
  const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params });
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2025-06-18',
  };
  return new Promise((done) => {
    const request = http.request(url, { agent, method: 'POST', headers }, async (response) => {
      let text = '';
      try {
        for await (const chunk of response) text += chunk;
        const data = text.split('\n').find((line) => line.startsWith('data: {'));
        const answer = JSON.parse(data ? data.slice(6) : text);
        done(answer.id === id ? answer.result.content[0].text : `an answer to ${answer.id}`);
      } catch (error) {
        done(`${response.statusCode} ${text.slice(0, 200)} (${error.message})`);
      }
    });
    request.setTimeout(TIMEOUT_MS, () => request.destroy(new Error('no answer')));
    request.on('error', (error) => done(error.message));
    request.end(body);
  });
}

let round = 0;
let wrong;
for (; round < Number(rounds) && !wrong; round++) {
  // Whoever asks first is answered last.
  const calls = Object.entries(USERS).map(async ([user, url], nth) => {
    const said = await whoami(url, round, nth === 0 ? 2 : 0);
    if (said !== user) wrong = `${user} got: ${said}`;
  });
  await Promise.all(calls);
}
if (Boolean(wrong) !== (wanted === 'crosses')) {
  console.log(`FAILED  equal ids, round ${round}: ${wrong ?? 'nobody was mixed up'}`);
  process.exit(1);
}
console.log(`ok  equal ids, ${wanted ? `as a plain proxy: ${wrong}` : `${round} rounds: nobody was mixed up`}`);
process.exit(0);
