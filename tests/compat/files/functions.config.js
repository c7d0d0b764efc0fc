// Built by a function that is called in the file.
function withDefaults(app) {
  return Object.assign({ script: 'say.js', max_restarts: 10, env: { NODE_ENV: process.env.NODE_ENV || 'test' } }, app);
}
exports.apps = [withDefaults({ name: 'built' }), withDefaults({ name: 'built-too', args: ['x'].concat([1, 2].map(String)) })];
