// What `pm2 init simple` users begin with, grown a little.
module.exports = {
  apps: [{
    name: 'app1',
    script: './say.js',
    env: { NODE_ENV: 'development' },
    env_production: { NODE_ENV: 'production', APP_LEVEL: 'warn' },
  }],
};
