// A second one may be started; a file restarts what is known all the same.
module.exports = { apps: [{ name: 'forced', script: 'say.js', force: true }] };
