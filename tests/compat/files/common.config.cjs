module.exports = { apps: [{ name: 'cjs', script: './say.cjs', time: true }] };
