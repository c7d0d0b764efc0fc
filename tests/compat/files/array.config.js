// No `apps`: the list itself.
module.exports = [
  { name: 'one', script: 'say.js' },
  { name: 'two', script: 'say.js', args: ['--two'] },
];
