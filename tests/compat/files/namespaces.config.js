module.exports = {
  apps: [
    { name: 'web', script: 'say.js', namespace: 'front' },
    { name: 'proxy', script: 'say.sh', namespace: 'front' },
    { name: 'db', script: 'say.sh', namespace: 'back', instances: 2 },
  ],
};
