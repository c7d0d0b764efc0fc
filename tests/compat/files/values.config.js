// Variables that are no texts.
module.exports = {
  apps: [{
    name: 'values', script: 'say.js',
    env: {
      APP_NUMBER: 42, APP_HALF: 1.5, APP_TRUE: true, APP_FALSE: false, APP_EMPTY: '', APP_NULL: null,
      APP_LIST: [1, 'b'], APP_MAP: { a: 1 }, APP_SPACES: ' a  b ', APP_FROM_SHELL: 'file wins',
    },
  }],
};
