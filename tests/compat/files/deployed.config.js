// The `deploy` block is for another verb.
module.exports = {
  apps: [{ name: 'site', script: 'say.js', env_production: { NODE_ENV: 'production' } }],
  deploy: {
    production: {
      user: 'node', host: 'example.test', ref: 'origin/main', repo: 'git@example.test:site.git', path: '/srv/site',
      'post-deploy': 'npm ci && pm2 reload deployed.config.js --env production',
    },
  },
};
