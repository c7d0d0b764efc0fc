module.exports = {
  apps: [
    { name: 'npx', script: 'npx', args: '-y some-mcp-server --stdio', env: { APP_KEY: 'k' } },
    { name: 'yarn', script: 'yarn', args: 'start', interpreter: 'none' },
  ],
};
