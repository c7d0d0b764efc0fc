module.exports = {
  apps: [
    { name: 'all', script: 'index.js', cwd: 'service', watch: true, ignore_watch: ['node_modules', 'logs', '*.tmp'] },
    { name: 'some', script: 'say.js', watch: ['service', 'backend/dist'], watch_delay: 1000, ignore_watch: 'logs tmp' },
    { name: 'off', script: 'say.js', watch: false },
  ],
};
