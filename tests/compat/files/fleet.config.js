// What verbs are tried on: names, namespaces, replicas, one that is not started.
module.exports = {
  apps: [
    { name: 'web', script: 'say.sh', namespace: 'front' },
    { name: 'page', script: 'say.sh', namespace: 'front' },
    { name: 'pool', script: 'say.sh', instances: 2, exec_mode: 'fork' },
    { name: 'later', script: 'say.sh', autostart: false },
  ],
};
