// The one form of a module that PM2 knows.
export const apps = [{ name: 'mjs', script: './say.js', namespace: 'modules' }];
