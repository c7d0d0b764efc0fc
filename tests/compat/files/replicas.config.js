module.exports = {
  apps: [
    { name: 'fork-3', script: 'say.js', instances: 3, exec_mode: 'fork' },
    { name: 'sh-2', script: 'say.sh', instances: 2 },
    { name: 'text-2', script: 'say.sh', instances: '2' },
  ],
};
