// Which PM2 refuses.
module.exports = { apps: [{ name: 'odd', script: 'say.js', max_memory_restart: '500m', kill_timeout: '3s' }] };
