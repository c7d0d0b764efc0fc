module.exports = {
  apps: [
    { name: 'asked', script: 'say.js', exec_mode: 'cluster', instances: 2 },
    { name: 'long', script: 'say.js', exec_mode: 'cluster_mode' },
    { name: 'guessed', script: 'say.js', instances: 2 },
    { name: 'one', script: 'say.js', instances: 1 },
    { name: 'forced', script: 'say.js', instances: 1, execute_command: true },
  ],
};
