module.exports = {
  apps: [
    { name: 'npm-start', script: 'npm', args: 'start' },
    { name: 'npm-run', script: 'npm', args: ['run', 'worker', '--', '--deep'] },
    { name: 'npm-line', script: 'npm run worker' },
  ],
};
