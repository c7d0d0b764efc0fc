// Names come from scripts.
module.exports = {
  apps: [
    { script: 'say.js' }, { script: './service/index.js' }, { script: 'backend/dist/main.js' },
    { script: './say.sh one' }, { script: 'said-by-line', interpreter: 'none' },
  ],
};
