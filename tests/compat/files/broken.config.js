module.exports = { apps: [ { name: 'x', script: 'say.js' ;
