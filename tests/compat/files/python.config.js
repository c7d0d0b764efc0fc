module.exports = {
  apps: [
    { name: 'by-extension', script: 'say.py' },
    { name: 'named', script: './say.py', interpreter: 'python3', interpreter_args: '-u' },
    { name: 'module', script: 'python3', args: '-m say_module --port 22003', interpreter: 'none', cwd: './tools' },
    { name: 'module-line', script: 'python3 -m say_module --port 22004', cwd: 'tools' },
  ],
};
