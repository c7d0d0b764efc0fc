module.exports = { apps: [{ name: 'twin', script: 'say.js' }, { name: 'twin', script: 'say.sh' }] };
