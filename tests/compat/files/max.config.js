module.exports = { apps: [{ name: 'max', script: 'say.js', instances: 'max', exec_mode: 'fork' }] };
