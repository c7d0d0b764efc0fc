// Values that PM2 takes for absent.
module.exports = {
  apps: [
    { name: 'zeros', script: 'say.js', max_restarts: 0, restart_delay: 0, kill_timeout: 0 },
    { name: 'nulls', script: 'say.js', max_memory_restart: null, cwd: null, args: null },
  ],
};
