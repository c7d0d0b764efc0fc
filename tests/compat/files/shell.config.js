// Command lines for a shell, and shell scripts.
module.exports = {
  apps: [
    { name: 'chain', script: 'cd tools && exec ../say.sh chained' },
    { name: 'assigned', script: 'APP_INLINE=1 ./say.sh "two words"' },
    { name: 'bash', script: './say.sh', interpreter: 'bash', args: ['a b', 'c'] },
    { name: 'direct', script: './say.sh', interpreter: 'none' },
    { name: 'shell-c', script: 'bash', args: ['-c', './say.sh from-c'], interpreter: 'none' },
  ],
};
