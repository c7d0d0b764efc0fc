module.exports = {
  apps: [
    { name: 'port', script: 'say.js', port: 22005 },
    { name: 'both', script: 'say.js', port: 22006, env: { PORT: 22007 } },
    { name: 'by-block', script: 'say.js', port: 22008, env_production: { PORT: 22009 } },
  ],
};
