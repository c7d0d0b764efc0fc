module.exports = { apps: [{ name: 'zero', script: 'say.js', instances: 0, exec_mode: 'fork' }] };
