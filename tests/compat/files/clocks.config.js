module.exports = {
  apps: [
    { name: 'daily', script: 'say.sh', cron_restart: '0 4 * * *', autorestart: false },
    { name: 'seconds', script: 'say.sh', cron_restart: '0 30 4 * * 1' },
    { name: 'off', script: 'say.sh', cron_restart: 0 },
  ],
};
