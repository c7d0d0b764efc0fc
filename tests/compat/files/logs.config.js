module.exports = {
  apps: [
    { name: 'files', script: 'say.js', out_file: './logs/out.log', error_file: 'logs/err.log' },
    { name: 'combined', script: 'say.js', log_file: 'logs/combined.log', time: true },
    { name: 'replicas', script: 'say.sh', instances: 2, out_file: 'logs/r.log', error_file: 'logs/r.err' },
    { name: 'merged', script: 'say.sh', instances: 2, merge_logs: true },
    { name: 'null', script: 'say.js', out_file: '/dev/null', error_file: '/dev/null' },
    { name: 'json', script: 'say.js', log_type: 'json', log_date_format: 'YYYY-MM-DD HH:mm Z' },
    { name: 'off', script: 'say.js', disable_logs: true },
    { name: 'odd_name.v2', script: 'say.js', pid_file: 'logs/odd.pid' },
  ],
};
