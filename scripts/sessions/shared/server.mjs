// A service that mixes up its callers when their ids are equal (CVE-2026-25536): all of them share one
// transport of the SDK 1.25.3. Its tool says who has asked.
import http from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

const server = new McpServer({ name: 'shared', version: '1.0.0' });
server.registerTool('whoami', { inputSchema: { ms: z.number() } }, async ({ ms }, extra) => {
  await new Promise((done) => setTimeout(done, ms));
  const user = extra.requestInfo.headers['x-mcpm-user-id'];
  return { content: [{ type: 'text', text: String(user) }] };
});
const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
await server.connect(transport);

async function answer(request, response) {
  if (request.url === '/health') {
    response.end('ok');
    return;
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  try {
    await transport.handleRequest(request, response, body ? JSON.parse(body) : undefined);
  } catch (error) {
    console.error(error);
    if (!response.headersSent) response.writeHead(500).end();
  }
}

http.createServer(answer).listen(Number(process.env.PORT), '127.0.0.1');
