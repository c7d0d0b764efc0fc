module.exports = {
  apps: [
    { name: 'text', script: 'say.js', node_args: '--max-old-space-size=256 --no-warnings' },
    { name: 'list', script: 'say.js', node_args: ['--stack-size=900'], args: ['--mine'] },
    { name: 'alias', script: 'say.js', interpreter_args: '--no-deprecation' },
    { name: 'camel', script: 'say.js', nodeArgs: '--trace-warnings' },
  ],
};
