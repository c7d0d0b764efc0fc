module.exports = {
  apps: [
    { name: 'list', script: 'say.js', filter_env: ['SECRET', 'FROM_S'] },
    { name: 'exact', script: 'say.js', filter_env: 'APP_SECRET' },
    { name: 'part', script: 'say.js', filter_env: 'SECRET' },
    { name: 'own', script: 'say.js', filter_env: ['APP_'], env: { APP_OWN: 'kept' } },
  ],
};
