module.exports = {
  apps: [
    { name: 'policy', script: 'say.js', max_restarts: 10, min_uptime: 2000, restart_delay: 4000 },
    { name: 'backoff', script: 'say.js', exp_backoff_restart_delay: 100 },
    { name: 'codes', script: 'say.js', stop_exit_codes: [0, 143] },
    { name: 'code', script: 'say.js', stop_exit_codes: 3 },
    { name: 'once', script: 'say.js', autorestart: false },
    { name: 'later', script: 'say.js', autostart: false },
  ],
};
