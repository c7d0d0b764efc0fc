// One of the scripts is not there.
module.exports = { apps: [{ name: 'gone', script: 'nowhere.js' }, { name: 'here', script: 'say.js' }] };
