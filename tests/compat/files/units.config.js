// Sizes and times as PM2 takes them.
module.exports = {
  apps: [
    { name: 'giga', script: 'say.js', max_memory_restart: '1G', min_uptime: '10s' },
    { name: 'mega', script: 'say.js', max_memory_restart: '200M', min_uptime: '2m', kill_timeout: 3000 },
    { name: 'kilo', script: 'say.js', max_memory_restart: '80000K', min_uptime: '1h' },
    { name: 'plain', script: 'say.js', max_memory_restart: 157286400, min_uptime: 5000 },
    { name: 'texts', script: 'say.js', kill_timeout: '4000', restart_delay: '250', listen_timeout: '9000' },
  ],
};
