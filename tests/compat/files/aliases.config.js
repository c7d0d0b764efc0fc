// Other spellings of attributes.
module.exports = {
  apps: [
    { name: 'exec', exec: 'say.js' },
    { name: 'cmd', cmd: './say.sh' },
    { name: 'command', command: 'say.js' },
    { name: 'camel', script: 'say.js', maxMemoryRestart: '90M', killTimeout: 2500, outFile: 'logs/camel.out', maxRestarts: 4 },
    { name: 'cron', script: 'say.js', cron: '*/10 * * * *' },
    { name: 'interpreter', script: 'say.sh', exec_interpreter: 'bash' },
    { name: 'logs', script: 'say.js', out: 'logs/o.log', err: 'logs/e.log', log: 'logs/all.log', combine_logs: true },
  ],
};
