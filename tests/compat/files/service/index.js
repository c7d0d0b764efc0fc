// Writes down how it was started, and stays.
const { writeFileSync } = require('fs');
const lines = [`cwd ${process.cwd()}`];
for (const arg of process.execArgv) lines.push(`flag ${arg}`);
for (const arg of process.argv.slice(2)) lines.push(`arg ${arg}`);
for (const [name, value] of Object.entries(process.env)) lines.push(`env ${name}=${value}`);
writeFileSync(`${process.env.SAID}/${process.env.pm_id}`, lines.join('\n') + '\n');
if (process.send) process.send('ready');
setInterval(() => {}, 1000);
