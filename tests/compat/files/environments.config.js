module.exports = {
  apps: [
    {
      name: 'staged', script: 'say.js', env: { NODE_ENV: 'development', APP_BASE: 1, APP_BOTH: 'base' },
      env_production: { NODE_ENV: 'production', APP_BOTH: 'production', APP_FLAG: true },
      env_staging: { NODE_ENV: 'staging' },
    },
    { name: 'appended', script: 'say.js', append_env_to_name: true, env_production: { APP_P: 'p' } },
    { name: 'bare', script: 'say.js' },
  ],
};
