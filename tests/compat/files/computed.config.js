// Functions, process.env and spreads.
const root = __dirname;
const app = (name, port) => ({
  name, script: 'say.js', cwd: root,
  env: { PORT: port, APP_HOME: process.env.APP_FROM_SHELL || 'none', APP_NAME: name },
});
module.exports = { apps: ['users', 'orders', 'mails'].map((name, i) => app(name, 22010 + i)) };
