// A port for each replica, and another name for its number.
module.exports = {
  apps: [
    { name: 'ports', script: 'say.js', exec_mode: 'fork', instances: 3, increment_var: 'PORT', env: { PORT: 22100 } },
    { name: 'text-port', script: 'say.js', exec_mode: 'fork', instances: 2, increment_var: 'PORT', env: { PORT: '22110' } },
    { name: 'counter', script: 'say.js', exec_mode: 'fork', instances: 2, increment_var: 'APP_NUMBER' },
    { name: 'own-var', script: 'say.js', exec_mode: 'fork', instances: 2, instance_var: 'INSTANCE_ID' },
  ],
};
