// Working directories, below that of the file.
module.exports = {
  apps: [
    { name: 'below', script: 'index.js', cwd: './service' },
    { name: 'deep', script: 'dist/main.js', cwd: 'backend', args: 'serve' },
    { name: 'path', script: './backend/dist/main.js' },
    { name: 'absolute', script: `${__dirname}/service/index.js`, cwd: __dirname + '/service' },
  ],
};
