// A text is split at spaces, quotes group; a list is taken as it is.
module.exports = {
  apps: [
    { name: 'text', script: 'say.js', args: '--one 1 --two=2   -x' },
    { name: 'quoted', script: 'say.js', args: '--title "two words" --single \'a b\' plain' },
    { name: 'list', script: 'say.js', args: ['--title', 'two words', '', '$HOME', '*'] },
    { name: 'numbers', script: 'say.js', args: ['--port', 8080] },
    { name: 'none', script: 'say.js', args: '' },
  ],
};
