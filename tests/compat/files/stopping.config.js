module.exports = {
  apps: [
    { name: 'patient', script: 'say.js', kill_timeout: 5000, treekill: false },
    { name: 'message', script: 'say.js', shutdown_with_message: true, kill_timeout: 2000 },
    { name: 'ready', script: 'say.js', wait_ready: true, listen_timeout: 5000 },
  ],
};
