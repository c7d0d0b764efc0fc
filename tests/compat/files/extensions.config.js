module.exports = {
  apps: [
    { name: 'js', script: 'say.js' }, { name: 'cjs', script: 'say.cjs' }, { name: 'mjs', script: 'say.mjs' },
    { name: 'sh', script: 'say.sh' }, { name: 'py', script: 'say.py' }, { name: 'line', script: './said-by-line' },
    { name: 'binary', script: 'sleep', args: '1000' },
  ],
};
