// A path with spaces, and names that are no file names.
module.exports = {
  apps: [
    { name: 'with space', script: './say.sh' },
    { name: 'päckchen ✓', script: './say.sh' },
    { name: 'a/b', script: './say.sh' },
    { name: 'path', script: './with space/say it.sh' },
  ],
};
