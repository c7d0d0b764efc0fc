// No `apps`: the only app itself.
module.exports = { name: 'alone', script: './say.js', args: ['--port', '22002'] };
