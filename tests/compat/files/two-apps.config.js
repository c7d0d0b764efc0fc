module.exports = {
  apps: [
    { name: 'api', script: 'say.js', env: { NODE_ENV: 'development', PORT: 22001 } },
    { name: 'worker', script: 'say.sh', args: 'queue --slow' },
  ],
};
