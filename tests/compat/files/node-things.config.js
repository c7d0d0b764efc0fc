// Switches of PM2's Node instrumentation and other companies' habits.
module.exports = {
  apps: [{
    name: 'habits', script: 'say.js', vizion: false, pmx: false, automation: false, source_map_support: false,
    windowsHide: true, trace: false, disable_trace: true, post_update: ['npm ci'], x_team: 'payments',
  }],
};
