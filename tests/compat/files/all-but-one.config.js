module.exports = { apps: [{ name: 'minus', script: 'say.js', instances: -1, exec_mode: 'fork' }] };
