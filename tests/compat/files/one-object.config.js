// `apps` is an app, and no list.
module.exports = { apps: { name: 'only', script: 'say.js', env: { APP_X: 'y' } } };
